"""Checking an output directory: files, wiring, certificate and, against the model, outputs."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_pipeline import manifest
from onnx_pipeline.errors import InputError, VerificationError
from onnx_pipeline.graph.target import Target
from onnx_pipeline.manifest import COSTS_NAME, Manifest, Port, Stage
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.verification.compare import OutputCheck

Inputs = str | os.PathLike[str] | Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and what is wrong.

    Attributes
    ----------
    directory : str
    stages : int
    checks : tuple of str
        What was checked, in order.
    problems : tuple of str
        One line each; empty when the directory is sound.
    notes : tuple of str
        What could not be checked, and why.
    outputs : tuple of OutputCheck
        Comparison with the unsplit model, when one was given.
    """

    directory: str
    stages: int
    checks: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    outputs: tuple[OutputCheck, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; infinite differences are null."""
        document = {"ok": self.ok, **asdict(self)}
        for entry in document["outputs"]:
            for key in ("max_abs", "max_rel"):
                if not math.isfinite(entry[key]):
                    entry[key] = None
        return document


@dataclass
class _Findings:
    checks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    outputs: list[OutputCheck] = field(default_factory=list)

    def add(self, check: str, problems: Iterable[str]) -> bool:
        """Record a check; return whether it found nothing."""
        found = list(problems)
        self.checks.append(check)
        self.problems += found
        return not found


def verify(
    directory: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    inputs: Inputs | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    recheck: float | None = None,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    progress: Progress = silent,
) -> VerifyReport:
    """Check an output directory; parameters as in :func:`inspect`.

    Raises
    ------
    VerificationError
        If anything is wrong; its message holds every problem.
    InputError
        If there is nothing to check: no directory, no readable manifest, an unusable model.
    """
    report = inspect(
        directory, model=model, inputs=inputs, dims=dims, seed=seed, custom_ops=custom_ops, progress=progress
    )
    if not report.ok:
        raise VerificationError(f"{report.directory}: {'; '.join(report.problems)}")
    return report


def inspect(
    directory: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    inputs: Inputs | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    recheck: float | None = None,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    progress: Progress = silent,
) -> VerifyReport:
    """Check an output directory and collect every problem.

    Parameters
    ----------
    directory : path-like
    model : path-like, optional
        The unsplit model; its outputs are compared with those of the chained stages.
    inputs : path-like or mapping, optional
        An ``.npz`` file or arrays to compare on; seeded random ones by default.
    dims : mapping of str to int, optional
        Symbolic dimensions of random inputs; those of the manifest by default.
    seed : int
        Of random inputs.
    recheck : float, optional
        Prove the lower bound again, for at most this many seconds from each end of the graph.
    custom_ops : sequence of path-like
        Libraries of custom operators for onnxruntime.
    progress : Progress

    Raises
    ------
    InputError
        If there is nothing to check.
    """
    folder = Path(directory)
    document = manifest.read(folder)
    found = _Findings()
    progress("verify", 0.0, "files")
    whole = found.add("files and hashes", _check_files(folder, document))
    wired = found.add("wiring", _check_wiring(document))
    if whole:
        progress("verify", 0.2, "stages")
        found.add("stage models", _check_stages(folder, document))
    progress("verify", 0.4, "certificate")
    found.add("certificate", _check_certificate(folder, document, recheck))
    if model is not None and whole and wired:
        progress("verify", 0.6, "outputs")
        from onnx_pipeline.verification.outputs import compare_outputs

        checks, problems, notes = compare_outputs(
            folder, document, Path(model), inputs, dims, seed, custom_ops
        )
        found.outputs += checks
        found.notes += notes
        found.add("outputs", problems)
    progress("verify", 1.0, "done")
    return VerifyReport(
        str(folder),
        len(document.stages),
        tuple(found.checks),
        tuple(found.problems),
        tuple(found.notes),
        tuple(found.outputs),
    )


def _check_files(folder: Path, document: Manifest) -> Iterator[str]:
    for stage in document.stages:
        entries = [(stage.file, stage.sha256)]
        if stage.data is not None:
            entries.append((stage.data.file, stage.data.sha256))
        for name, digest in entries:
            path = folder / name
            if not path.is_file():
                yield f"{name} is missing"
                continue
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    yield f"{name} is not the file that was written: its SHA-256 differs"

    yield from _check_shared(folder, document)


def _check_shared(folder: Path, document: Manifest) -> Iterator[str]:
    """Check size and time of change of linked or referenced weights; they may be too large to hash."""
    weights = document.weights
    if weights is None:
        return
    base = Path(weights["folder"]) if weights["mode"] == "reference" else folder
    for entry in weights["files"]:
        name = entry["file"]
        if Path(name).is_absolute() or ".." in Path(name).parts:
            yield f"weights {name!r} lie outside their folder"
            continue
        try:
            found = (base / name).stat()
        except OSError:
            yield f"weights {name!r} are missing in {base}"
            continue
        if (found.st_size, found.st_mtime_ns) != (entry["bytes"], entry.get("modified_ns")):
            yield f"weights {name!r} changed since the model was split"


def _check_wiring(document: Manifest) -> Iterator[str]:
    stages = document.stages
    if [stage.index for stage in stages] != list(range(len(stages))):
        yield "the stages are not numbered 0, 1, 2, ..."
        return
    inputs = {port.name: port for port in document.model.inputs}
    produced: dict[tuple[str | int, str], Port] = {("model", name): port for name, port in inputs.items()}
    produced |= {(stage.index, port.name): port for stage in stages for port in stage.outputs}
    for stage in stages:
        for port in stage.inputs:
            where = f"stage {stage.index}, input {port.name!r}"
            giver = produced.get((port.source, port.name))
            if port.source != "model" and not (isinstance(port.source, int) and port.source < stage.index):
                yield f"{where}: source {port.source!r} is no earlier stage"
            elif giver is None:
                yield f"{where}: {port.source!r} does not produce it"
            elif giver.dtype != port.dtype:
                yield f"{where}: {port.dtype} expected, {giver.dtype} produced"
        yield from _check_targets(document, stage)
    given = {p.name for stage in stages for p in stage.outputs if "model" in p.targets}
    for result in document.model.outputs:
        if result.name not in given and result.name not in inputs:
            yield f"no stage produces the model output {result.name!r}"


def _check_targets(document: Manifest, stage: Stage) -> Iterator[str]:
    for port in stage.outputs:
        for target in port.targets:
            if target == "model":
                known = any(p.name == port.name for p in document.model.outputs)
            else:
                known = any(
                    other.index == target and p.name == port.name and p.source == stage.index
                    for other in document.stages
                    for p in other.inputs
                )
            if not known:
                yield f"stage {stage.index}, output {port.name!r}: {target!r} does not read it"


def _check_stages(folder: Path, document: Manifest) -> Iterator[str]:
    """Check that each stage is a valid model with the boundary that the manifest says."""
    import onnx

    from onnx_pipeline.emission.emit import type_text

    for stage in document.stages:
        path = folder / stage.file
        try:
            if document.weights is not None:  # the checker refuses links and other folders
                onnx.checker.check_model(_without_weights(onnx.load(path, load_external_data=False)))
            else:
                onnx.checker.check_model(str(path))
        except onnx.checker.ValidationError as error:
            reason = " ".join(str(error).split())
            if "No Op registered" not in reason:  # operators that only the runtime knows
                yield f"{stage.file} is no valid ONNX model: {reason[:300]}"
                continue
        graph = onnx.load(path, load_external_data=False).graph
        weights = {tensor.name for tensor in graph.initializer}
        for label, ports, values in (
            ("inputs", stage.inputs, [v for v in graph.input if v.name not in weights]),
            ("outputs", stage.outputs, list(graph.output)),
        ):
            expected = [(p.name, p.dtype) for p in ports]
            if expected != [(v.name, type_text(v.type)) for v in values]:
                yield f"{stage.file}: its {label} are not those of the manifest"


def _without_weights(model: Any) -> Any:
    """Turn external initializers into inputs: the checker looks for them beside the stage."""
    import onnx

    external = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in external:
        model.graph.initializer.remove(tensor)
        if model.ir_version >= 4:
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return model


def _check_certificate(folder: Path, document: Manifest, recheck: float | None) -> Iterator[str]:
    """Recompute costs and bounds from ``costs.json``."""
    from onnx_pipeline import planfile
    from onnx_pipeline.graph.costs_json import read_graph
    from onnx_pipeline.graph.objective import countable
    from onnx_pipeline.partition import certificate
    from onnx_pipeline.partition.result import Bound, Certificate, Partition, PartitionResult, SearchRecord

    try:
        graph = read_graph(folder / COSTS_NAME)
    except InputError as error:
        yield str(error)
        return
    home = {name: stage.index for stage in document.stages for name in stage.node_names}
    missing = [name for name in graph.node_names if name not in home]
    if missing:
        yield f"{len(missing)} nodes of {COSTS_NAME} are in no stage, {missing[0]!r} for one"
        return
    claimed = document.certificate
    stage_of = np.array([home[name] for name in graph.node_names], dtype=np.int64)
    target, stages = _target(document.target), document.target["stages"]
    partition = Partition(countable(graph, target, stages), target, stages, stage_of)
    tick = partition.graph.ticks_per_second
    proofs = Certificate(tuple(Bound.from_json(entry, tick) for entry in claimed["bounds"]))
    problems = certificate.check(partition, proofs)
    if recheck is not None and not problems:
        problems = certificate.recheck(partition, proofs, recheck)
    yield from (f"certificate: {problem}" for problem in problems)
    if problems:
        return
    result = PartitionResult(partition, proofs, SearchRecord())
    if round(claimed["bottleneck_seconds"] * tick) != round(result.bottleneck * tick):
        yield f"certificate: the partition costs {result.bottleneck} s, not {claimed['bottleneck_seconds']} s"
    if round(claimed["lower_bound_seconds"] * tick) != result.lower:
        yield "certificate: the lower bound is not the best of the bounds"
    if claimed["status"] != result.status:
        yield f"certificate: the status should be {result.status!r}"
    for stage, cost in zip(document.stages, result.costs, strict=False):
        expected = planfile.cost_fields(cost, tick)
        if any(round(expected[key] * tick) != round(stage.cost.get(key, 0.0) * tick) for key in expected):
            yield f"certificate: the cost of stage {stage.index} cannot be reproduced"
        if cost.parameter_bytes != stage.parameter_bytes:
            yield f"certificate: the parameter bytes of stage {stage.index} cannot be reproduced"


def _target(entry: Mapping[str, Any]) -> Target:
    def limit(key: str) -> float:
        return math.inf if entry[key] is None else float(entry[key])

    return Target(
        bandwidth=limit("bandwidth_bytes_per_second"),
        memory=limit("memory_bytes"),
        transfer_latency=entry.get("transfer_latency_seconds", 0.0),
        stage_overhead=entry.get("stage_overhead_seconds", 0.0),
        host_io=entry["host_io"],
        memory_mode=entry.get("memory_mode", "overflow"),
        activations=entry.get("activations", False),
        name=entry["device"],
    )
