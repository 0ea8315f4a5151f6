"""What a cut costs where onnxruntime computes in a blocked layout.

On CPUs convolutions work on blocks of channels (NCHWc), and neighbours pass such tensors on as they are. A
stage border speaks the model's layout: the producer's stage gains a ``ReorderOutput``, the consumer's a
``ReorderInput``. Which tensors these are is read from the saved optimised model, what they cost is measured
once on a convolution made for the purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from onnx_pipeline.costmodel.profiling.mapping import GraphNode, replaced_tensor
from onnx_pipeline.costmodel.profiling.trace import read_trace
from onnx_pipeline.files.scratch import scratch_folder
from onnx_pipeline.ort.session import SessionSettings, open_session

BLOCKED_DOMAIN = "com.microsoft.nchwc"
_REORDERS = ("ReorderInput", "ReorderOutput")
#: Nanoseconds per byte and side where the probe shows no reorder (0.04-0.14 on current servers).
_USUAL_RATE = 0.06
_PROBE_SIDE, _PROBE_CHANNELS, _PROBE_RUNS = 28, 120, 9
#: More than a processor caches: other stages, elsewhere and in a chain, run between two calls of one.
_EVICT_BYTES = 1 << 26


def blocked_tensors(kernels: Sequence[GraphNode], nodes: Sequence[GraphNode]) -> set[str]:
    """Return the original tensors that exist in the blocked layout only.

    These are what a blocked kernel computes and no kernel writes under the original name. Tensors inside a
    fused blocked kernel count too: a cut there makes them appear, in the model's layout.
    """
    written = {value for kernel in kernels for value in kernel.writes}
    blocked = [kernel for kernel in kernels if kernel.domain == BLOCKED_DOMAIN and kernel.op not in _REORDERS]
    producer = {value: node for node in nodes for value in node.writes}
    found = (replaced_tensor(kernel.name, producer) for kernel in blocked)
    names = {name for name in found if name is not None}
    # A reorder to the model's layout writes the original name: such a tensor is not hidden.
    hidden = names - written
    waiting = [producer[value] for value in names]
    reached = {node.name for node in waiting}
    while waiting:
        node = waiting.pop()
        for value in node.reads:
            parent = producer.get(value)
            if parent is None or value in written or parent.name in reached:
                continue
            hidden.add(value)
            if not any(each in names for each in parent.writes):
                reached.add(parent.name)
                waiting.append(parent)
    return hidden


def border_costs(
    kernels: Sequence[GraphNode], nodes: Sequence[GraphNode], nbytes: Mapping[str, int], threads: int
) -> dict[str, int]:
    """Return nanoseconds that each side of a border pays for every blocked tensor."""
    hidden = blocked_tensors(kernels, nodes)
    if not hidden:
        return {}
    rate = reorder_rate(threads)
    return {name: round(rate * nbytes.get(name, 0)) for name in sorted(hidden)}


@cache
def reorder_rate(threads: int = 1) -> float:
    """Measure the nanoseconds per byte of one reorder, mean of both directions, on this host."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, _PROBE_CHANNELS, _PROBE_SIDE, _PROBE_SIDE]
    weight = np.full((_PROBE_CHANNELS, _PROBE_CHANNELS, 1, 1), 0.01, np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    with scratch_folder() as folder:
        session = open_session(model, SessionSettings(threads=threads, profile_prefix=folder / "probe"))
        feeds = {"x": np.ones(shape, np.float32)}
        other = np.zeros(_EVICT_BYTES // 8)
        for _ in range(_PROBE_RUNS):
            # A stage reads what another one wrote since, and writes while its last results are still in use.
            feeds = {"x": feeds["x"].copy()}
            other += 1.0
            results = session.run(None, feeds)
        del results
        trace = read_trace(session.end_profiling())
    spent: dict[str, list[int]] = {op: [] for op in _REORDERS}
    for event in (event for run in trace[2:] for event in run if event.op in _REORDERS):
        spent[event.op].append(event.duration)
    if not all(spent.values()):
        return _USUAL_RATE
    size = 4 * int(np.prod(shape))
    return 1e3 * sum(float(np.median(times)) for times in spent.values()) / (len(spent) * size)
