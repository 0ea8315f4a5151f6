"""Which nodes an execution provider leaves to the CPU: what it cannot run.

onnxruntime gives every node to the first provider that takes it and everything else to the CPU; the profile
of a session without optimisations names the provider of every node.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onnx_pipeline.costmodel.profiling.sessions import Runner
from onnx_pipeline.costmodel.profiling.trace import read_trace
from onnx_pipeline.costmodel.request import CostRequest
from onnx_pipeline.errors import InputError
from onnx_pipeline.ort.providers import CPU

if TYPE_CHECKING:
    import onnx_ir

#: Integers of so many bytes at most are shapes and indices. onnxruntime keeps them on the CPU where providers
#: could take them, because they are needed there; the nodes that make them run beside any stage.
SHAPES = 512


def left_to_cpu(request: CostRequest, runner: Runner, folder: Path) -> tuple[str, ...]:
    """Return the names of the nodes that the provider cannot run, none for the CPU's own.

    Parameters
    ----------
    request : CostRequest
    runner : Runner
    folder : Path
        For the profile.

    Raises
    ------
    InputError
        If onnxruntime cannot run the model.
    """
    if request.provider == CPU:
        return ()
    place = folder / "placed"
    place.mkdir()
    session = runner.session(trace_to=place, optimise=False, save=False)
    runner.run(session)
    (events, *_) = read_trace(session.end_profiling()) or [[]]
    if not any(event.provider == request.provider for event in events):
        raise InputError(
            request.source.path, f"{request.provider} runs no node of the model: all are left to the CPU"
        )
    on_cpu = {event.name for event in events if event.provider == CPU}
    left = [node for node in request.nodes if node.name in on_cpu]
    return tuple(str(node.name) for node in left if not _makes_shapes(request, node))


def _makes_shapes(request: CostRequest, node: onnx_ir.Node) -> bool:
    """Whether a node makes small integers only."""
    infos = [request.infos.get(str(value.name)) for value in node.outputs if value.name]
    return all(info and info.dtype.is_integer() and info.nbytes <= SHAPES for info in infos)
