"""What runs where: execution providers, session options and cores of every stage."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.manifest import DATA_FOLDER_OPTION, Manifest

Provider = tuple[str, Mapping[str, Any]]
CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class StageSpec:
    """Everything that is needed to load one stage, in this process or another.

    Attributes
    ----------
    index : int
    path : Path
    providers : tuple of (str, mapping)
        Names and options, in order of preference.
    threads : int
        Intra-op threads, where ``options`` do not say.
    cores : tuple of int
        Cores that it is confined to; empty for all.
    options : mapping or onnxruntime.SessionOptions, optional
        Attributes of the session options, and configuration entries (keys with a dot).
    data : Path, optional
        Folder of external weights that are not beside the stage.
    custom_ops : tuple of Path
        Libraries of custom operators.
    listed : bool
        Run the nodes in the order of the file, for which the manifest's peak of live activations holds.
    """

    index: int
    path: Path
    providers: tuple[Provider, ...]
    threads: int = 1
    cores: tuple[int, ...] = ()
    options: Any = field(default=None)
    data: Path | None = None
    custom_ops: tuple[Path, ...] = ()
    listed: bool = False


def place(
    directory: Path,
    document: Manifest,
    providers: Any = None,
    provider_options: Any = None,
    sess_options: Any = None,
    pin: bool = False,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
) -> list[StageSpec]:
    """Return how to load every stage; parameters as :class:`~onnx_pipeline.runtime.PipelineSession`.

    Raises
    ------
    UsageError
        If a stage or a provider does not exist, or options do not match providers.
    """
    data = weights_folder(document)
    libraries = tuple(Path(path).absolute() for path in custom_ops)
    count = len(document.stages)
    cores = usable_cores()
    share = max(1, len(cores) // count)
    named = _per_stage(providers, count, "providers")
    optioned = _per_stage(provider_options, count, "provider_options")
    settings = _per_stage(sess_options, count, "sess_options")
    specs = []
    for stage in document.stages:
        i = stage.index
        chosen = _providers(named[i], optioned[i]) if named[i] else tuple(stage.providers)
        check_providers(chosen)
        mine = tuple(cores[(i * share + j) % len(cores)] for j in range(share)) if pin else ()
        path, chosen = directory / stage.file, chosen or ((CPU, {}),)
        listed = stage.execution_order == "file"
        specs.append(StageSpec(i, path, chosen, share, mine, settings[i], data, libraries, listed))
    return specs


def weights_folder(document: Manifest) -> Path | None:
    """Return where weights are that the stages only refer to; None if they are beside the stages."""
    weights = document.weights
    return Path(weights["folder"]) if weights is not None and weights["mode"] == "reference" else None


def usable_cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def check_providers(chosen: Sequence[Provider]) -> None:
    """Refuse execution providers that this onnxruntime does not have.

    Raises
    ------
    UsageError
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    for name, _ in chosen:
        if name not in available:
            raise UsageError(f"unknown provider {name!r}: this onnxruntime has {', '.join(available)}")


def parse_provider(text: str) -> tuple[int | None, Provider]:
    """Read ``[STAGE=]NAME[:key=value...]``.

    Returns
    -------
    tuple
        The stage (None for all), and the provider's name and options.

    Raises
    ------
    ValueError
        If it is none of that.
    """
    head, *pairs = text.split(":")
    stage, equals, name = head.rpartition("=")
    options = dict(pair.partition("=")[::2] for pair in pairs)
    if not name or "" in options or any("=" not in pair for pair in pairs):
        raise ValueError(f"{text!r} is not [STAGE=]NAME[:key=value...]")
    if equals and not stage.isdecimal():
        raise ValueError(f"{stage!r} is no stage number")
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
        If onnxruntime cannot load it, or runs it on another provider than the one asked for.
    """
    import onnxruntime

    options = session_options(spec)
    # A path into another folder is refused in a file, but not as an option of the session.
    model: Any = str(spec.path) if spec.data is None else _read(spec.path)
    before = _confine(spec.cores)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=list(spec.providers))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(spec.path, f"onnxruntime cannot load this stage: {reason}") from error
    finally:
        _confine(before)
    wanted, used = spec.providers[0][0], session.get_providers()
    if wanted not in used:
        raise InputError(spec.path, f"{wanted} could not be started; onnxruntime fell back to {used[0]}")
    return session


def session_options(spec: StageSpec) -> Any:
    """Return onnxruntime's options for a stage.

    Raises
    ------
    UsageError
        If onnxruntime has no such option, or libraries are given for a SessionOptions object.
    InputError
        If a library of custom operators cannot be loaded.
    """
    import onnxruntime

    if spec.options is not None and not isinstance(spec.options, Mapping):
        if spec.custom_ops:
            raise UsageError("register custom operators with the SessionOptions object itself")
        if spec.data is not None:
            set_data_folder(spec.options, spec.data)
        return spec.options
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # whatever goes wrong is raised, and told once
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    if spec.listed:
        # onnxruntime's default is depth first; by priority, equal here, it follows the file.
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    for name, value in (spec.options or {}).items():
        if "." in name:
            options.add_session_config_entry(name, str(value))
        elif hasattr(options, name):
            setattr(options, name, value)
        else:
            raise UsageError(f"onnxruntime's SessionOptions have no {name!r}")
    if spec.data is not None:
        set_data_folder(options, spec.data)
    if spec.custom_ops:
        from onnx_pipeline.model.source import register

        register(options, spec.custom_ops)
    return options


def set_data_folder(options: Any, folder: Path) -> None:
    """Tell onnxruntime where the weights of a model given as bytes are, once: it warns of a second time."""
    try:
        known = options.get_session_config_entry(DATA_FOLDER_OPTION)
    except RuntimeError:  # not set
        known = None
    if known != str(folder):
        options.add_session_config_entry(DATA_FOLDER_OPTION, str(folder))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, error.strerror or str(error)) from error


def _confine(cores: Sequence[int]) -> tuple[int, ...]:
    """Confine the calling thread to some cores; return where it was, empty for no change."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        return ()
    before = tuple(sorted(os.sched_getaffinity(0)))
    os.sched_setaffinity(0, cores)
    return before


confine = _confine


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
        raise UsageError(f"{len(pairs)} providers but {len(optioned)} provider_options")
    return tuple((name, {**own, **more}) for (name, own), more in zip(pairs, optioned, strict=True))
