"""Placement of stages: execution providers, session options and cores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnx_pipeline.errors import Advice, InputError, UsageError
from onnx_pipeline.figures import format_count
from onnx_pipeline.manifest import COSTS_NAME, FILE_NAME, Manifest, file_names
from onnx_pipeline.ort.providers import CPU, Provider, check_providers
from onnx_pipeline.ort.session import SessionSettings, open_session
from onnx_pipeline.runtime.layout import Layout


@dataclass(frozen=True)
class StageSpec:
    """Everything that is needed to load one stage, in this process or another.

    Attributes
    ----------
    index : int
    path : Path
    settings : SessionSettings
    seats : tuple of tuple of int
        Cores that each replica is confined to; empty for all.
    inputs : frozenset of str
        What the manifest says that it is given.
    replica : int
    """

    index: int
    path: Path
    settings: SessionSettings
    seats: tuple[tuple[int, ...], ...] = ()
    inputs: frozenset[str] = frozenset()
    replica: int = 0

    @property
    def cores(self) -> tuple[int, ...]:
        """Cores of this replica; empty for all."""
        return self.seats[self.replica] if self.seats else ()

    def at(self, replica: int) -> StageSpec:
        """Return the same for another replica."""
        return replace(self, replica=replica)


def place(
    directory: Path,
    document: Manifest,
    providers: Any = None,
    provider_options: Any = None,
    sess_options: Any = None,
    pin: bool = False,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    allow_reference: str | os.PathLike[str] | None = None,
) -> list[StageSpec]:
    """Return how to load every stage; parameters as for :class:`~onnx_pipeline.PipelineSession`.

    Raises
    ------
    UsageError
        If a stage or a provider does not exist, or options do not match providers.
    """
    data = weights_folder(directory, document, allow_reference)
    check_regular(directory, document)
    libraries = tuple(Path(path).absolute() for path in custom_ops)
    count = len(document.stages)
    layout, cores = Layout.of(document), usable_cores()
    share = max(1, len(cores) // len(layout.workers))
    seats = [
        tuple(cores[(w * share + j) % len(cores)] for j in range(share)) for w in range(len(layout.workers))
    ]
    named = _per_stage(providers, count, "providers")
    optioned = _per_stage(provider_options, count, "provider_options")
    given = _per_stage(sess_options, count, "sess_options")
    specs = []
    for stage in document.stages:
        i = stage.index
        chosen = _providers(named[i], optioned[i]) if named[i] else tuple(stage.providers)
        check_providers(name for name, _ in chosen)
        settings = SessionSettings(
            providers=chosen or ((CPU, {}),),
            threads=stage.threads or _threads(document) or share,
            listed=stage.execution_order == "file",  # its peak of live activations holds for this order
            data_folder=data,
            custom_ops=libraries,
            options=given[i],
        )
        given_to = frozenset(port.name for port in stage.inputs)
        mine = tuple(seats[worker] for worker in layout.serving[i]) if pin else ()
        specs.append(StageSpec(i, directory / stage.file, settings, mine, given_to))
    return specs


def _threads(document: Manifest) -> int | None:
    """Return the threads that the stages were profiled with, where that was more than one."""
    threads = int(document.cost_model.get("threads", 1))
    return threads if threads > 1 else None


def weights_folder(
    directory: Path, document: Manifest, allowed: str | os.PathLike[str] | None = None
) -> Path | None:
    """Return where weights are that the stages only refer to; None if they are beside the stages.

    Raises
    ------
    InputError
        If that is a folder of somebody else: neither below ``directory`` nor below ``allowed``.
    """
    weights = document.weights
    if weights is None or weights["mode"] != "reference":
        return None
    folder = Path(weights["folder"]).resolve()
    for trusted in (directory, *(() if allowed is None else (allowed,))):
        if folder.is_relative_to(Path(trusted).resolve()):
            return folder
    hint = Advice("if it may be read, give {allow_reference}", allow_reference=os.fspath(folder))
    raise InputError(directory, f"its weights are in another folder, {folder}", hint)


def check_regular(directory: Path, document: Manifest) -> None:
    """Refuse files of a split that are missing or not files: reading a pipe would never end.

    Raises
    ------
    InputError
        On the first of them.
    """
    for name in sorted(file_names(document) - {FILE_NAME, COSTS_NAME}):
        path = directory / name
        if path.exists() and not path.is_file():
            raise InputError(path, "not a file")


def usable_cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def parse_provider(text: str) -> tuple[int | None, Provider]:
    """Read ``[STAGE=]NAME[:key=value...]``.

    Returns
    -------
    tuple
        The stage (None for all), and the provider's name and options.

    Raises
    ------
    ValueError
        If the text has another form.
    """
    head, *pairs = text.split(":")
    stage, equals, name = head.rpartition("=")
    options = dict(pair.partition("=")[::2] for pair in pairs)
    if not name or "" in options or any("=" not in pair for pair in pairs):
        raise ValueError(f"{text!r} is not [STAGE=]NAME[:key=value...]")
    if equals and not stage.isdecimal():
        raise ValueError(f"{stage!r} is not a stage number")
    return (int(stage) if equals else None), (name, options)


def gather_providers(parsed: Sequence[tuple[int | None, Provider]]) -> Any:
    """Return the ``providers`` argument for options that :func:`parse_provider` read.

    Those of a stage replace those for all stages.
    """
    if not parsed:
        return None
    table: dict[int | None, list[Provider]] = {}
    for stage, provider in parsed:
        table.setdefault(stage, []).append(provider)
    return table[None] if set(table) == {None} else table


def load(spec: StageSpec) -> Any:
    """Load a stage; the threads that onnxruntime makes for it stay on the stage's cores.

    Raises
    ------
    InputError
        If onnxruntime cannot load it, or runs it on another provider than the one asked for, or if it takes
        other inputs than the manifest says.
    UsageError
        If onnxruntime has no such option.
    """
    before = confine(spec.cores)
    try:
        session = open_session(spec.path, spec.settings, what="this stage")
    finally:
        confine(before)
    for port in session.get_inputs():
        if port.name not in spec.inputs:
            raise InputError(spec.path, f"takes an input {port.name!r} that {FILE_NAME} does not give it")
    return session


def confine(cores: Sequence[int]) -> tuple[int, ...]:
    """Confine the calling thread to some cores; return where it was, empty for no change."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        return ()
    before = tuple(sorted(os.sched_getaffinity(0)))
    os.sched_setaffinity(0, cores)
    return before


def _per_stage(value: Any, count: int, what: str) -> list[Any]:
    """Spread a value over the stages: a mapping by stage number, anything else is for all.

    A mapping's entry None stands for the stages that it does not name. Session options may also be a mapping
    of their own, whose keys are names.
    """
    if not isinstance(value, Mapping) or any(isinstance(key, str) for key in value):
        return [value] * count
    for key in value:
        if key is not None and not (isinstance(key, int) and 0 <= key < count):
            raise UsageError(f"{what}: there is no stage {key!r}; stages are 0 to {count - 1}")
    return [value.get(stage, value.get(None)) for stage in range(count)]


def _providers(named: Any, optioned: Any) -> tuple[Provider, ...]:
    """Pair names with options, as InferenceSession does."""
    pairs = [(p, {}) if isinstance(p, str) else (p[0], dict(p[1])) for p in named]
    if not optioned:
        return tuple(pairs)
    if len(optioned) != len(pairs):
        raise UsageError(f"{format_count(len(pairs), 'provider')} but {len(optioned)} provider_options")
    return tuple((name, {**own, **more}) for (name, own), more in zip(pairs, optioned, strict=True))
