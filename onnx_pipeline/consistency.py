"""Whether the parts of a manifest fit each other, before anything is done with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from onnx_pipeline.arrangement import lacking

if TYPE_CHECKING:
    from onnx_pipeline.manifest import Manifest, Port, Stage, StageInput, StageOutput

#: Producer and name of a tensor.
Key = tuple[str | int, str]


def contradictions(document: Manifest) -> Iterator[str]:
    """Yield one line per contradiction: numbers, names, wiring, measurements."""
    stages = document.stages
    if [stage.index for stage in stages] != list(range(len(stages))):
        yield "the stages are not numbered 0, 1, 2, ..."
        return
    if document.target.get("fleet") is None and len(stages) > document.target["stages"]:
        yield f"more stages ({len(stages)}) than devices ({document.target['stages']})"
    yield from lacking(document.target, document.certificate)
    yield from _devices(document)
    yield from _names(document)
    yield from _wiring(document)
    if document.measurement is not None:
        for stage in stages:
            if stage.measured is None:
                yield f"stage {stage.index} was not measured, though the others were"
    for entry in () if document.weights is None else document.weights["files"]:
        name = PurePosixPath(entry["file"])
        linked = document.weights is not None and document.weights["mode"] == "link"
        if name.is_absolute() or ".." in name.parts or (linked and len(name.parts) != 1):
            yield f"weights {entry['file']!r} lie outside their folder"


def _devices(document: Manifest) -> Iterator[str]:
    """Every stage has a device of the fleet, or replicas on no more devices than there are."""
    stages, fleet = document.stages, document.target.get("fleet")
    wanted = sum(stage.replicas for stage in stages)
    most = document.target.get("devices", document.target["stages"])
    if fleet is None and len(stages) < wanted > most:
        yield f"the stages take {wanted} devices, there are {most}"
    placed = {stage.index: stage.device for stage in stages if stage.device is not None}
    if fleet is None:
        yield from (f"stage {index} has a device, but there is no fleet" for index in placed)
        return
    for name in _repeated(kind["name"] for kind in fleet["kinds"]):
        yield f"two kinds of device are called {name!r}"
    devices, per_device = fleet["devices"], fleet["stages_per_device"]
    for kind in sorted({kind for kind in devices if kind >= len(fleet["kinds"])}):
        yield f"a device is of kind {kind}; the fleet has {len(fleet['kinds'])}"
    for stage in stages:
        if not 0 <= placed.get(stage.index, -1) < len(devices):
            yield f"stage {stage.index} has none of the {len(devices)} devices of the fleet"
        if stage.replicas > 1:
            yield f"stage {stage.index} has replicas, though it has a device of its own"
    for device, times in Counter(placed.values()).items():
        if per_device is not None and times > per_device:
            yield f"device {device} has {times} stages, at most {per_device} may share it"
    if not fleet["free"] and per_device == 1 and list(placed.values()) != sorted(placed.values()):
        yield "later stages are on earlier devices, though the order of the devices is fixed"


def _names(document: Manifest) -> Iterator[str]:
    """Names that must be there once only."""
    stages = document.stages
    tensors = [port.name for port in document.model.inputs]
    for label, names in (
        ("the file", [stage.file for stage in stages] + [s.data.file for s in stages if s.data is not None]),
        ("node", [name for stage in stages for name in stage.node_names]),
        ("tensor", tensors + [port.name for stage in stages for port in stage.outputs]),
        ("model output", [port.name for port in document.model.outputs]),
        *((f"stage {stage.index}: input", [port.name for port in stage.inputs]) for stage in stages),
    ):
        for name in _repeated(names):
            yield f"{label} {name!r} is listed twice"


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _wiring(document: Manifest) -> Iterator[str]:
    """Every tensor comes from where its reader says, with its type, and goes to where its maker says."""
    model: dict[Key, Port] = {("model", port.name): port for port in document.model.inputs}
    made: dict[Key, StageOutput] = {(s.index, port.name): port for s in document.stages for port in s.outputs}
    known: dict[Key, Port] = {**model, **made}
    readers: dict[Key, list[str | int]] = {}
    for stage in document.stages:
        for port in stage.inputs:
            readers.setdefault((port.source, port.name), []).append(stage.index)
            where = f"stage {stage.index}, input {port.name!r}"
            if port.source != "model" and not (isinstance(port.source, int) and port.source < stage.index):
                yield f"{where}: source {port.source!r} is not an earlier stage"
            else:
                yield from _differences(where, port, known.get((port.source, port.name)))
    for result in document.model.outputs:
        givers = [stage.index for stage in document.stages if _gives(stage, result.name)]
        if not givers and ("model", result.name) not in model:
            yield f"no stage produces the model output {result.name!r}"
        for giver in givers:
            readers.setdefault((giver, result.name), []).insert(0, "model")
    for key, output in made.items():
        where = f"stage {key[0]}, output {output.name!r}"
        actual = readers.get(key, [])
        yield from (f"{where}: {end!r} does not read it" for end in output.targets if end not in actual)
        yield from (f"{where}: {end!r} reads it, too" for end in actual if end not in output.targets)
        if set(actual) == set(output.targets) and actual != list(output.targets):
            yield f"{where}: its targets are not in order"


def _gives(stage: Stage, result: str) -> bool:
    return any(port.name == result and "model" in port.targets for port in stage.outputs)


def _differences(where: str, port: StageInput, giver: Port | None) -> Iterator[str]:
    if giver is None:
        yield f"{where}: {port.source!r} does not produce it"
    elif giver.dtype != port.dtype:
        yield f"{where}: {port.dtype} expected, {giver.dtype} produced"
    elif (giver.shape, getattr(giver, "bytes", port.bytes)) != (port.shape, port.bytes):
        yield f"{where}: its producer gives another shape or size"
