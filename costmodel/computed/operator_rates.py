"""Rates of operators that reach neither the peak of matrix products nor the bandwidth of memory.

Normalisations, transcendental functions, depthwise and quantised convolutions run at speeds of their own, by
factors of two to fifty below the roofline. Each is measured in a small model of typical shape, as it would
run in a stage: with all optimisations, on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_pipeline.costmodel.computed.flops import Operation, moved_bytes, operations

#: Timed runs of each model.
_RUNS = 15
#: Nodes in a row; the difference to one node leaves the call and changes of layout out.
_CHAIN = 5


@dataclass(frozen=True)
class Probe:
    """One operator in a model of its own.

    Attributes
    ----------
    kind : str
        Key of the rate: the operator, with ``.depthwise`` or ``.int8`` where that makes a difference.
    op : str
    shape : tuple of int
        Of the first input and, for operators in a chain, of the output.
    weights : mapping of str to ndarray or numpy scalar
        Further inputs.
    attributes : mapping
    chained : bool
        Whether the output can be the next node's input.
    dtype : type
        Of the first input.
    """

    kind: str
    op: str
    shape: tuple[int, ...]
    weights: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    chained: bool = True
    dtype: type = np.float32


def probes() -> list[Probe]:
    """Return what is measured: shapes as in vision and language models of usual size."""
    tokens, heads, image = (1, 197, 768), (1, 12, 197, 197), (1, 64, 56, 56)
    ones = np.ones(768, np.float32)
    plain = ("Erf", "Tanh", "Sigmoid", "HardSwish", "Sqrt", "Exp", "Softplus")
    scale, zero = np.float32(0.02), np.uint8(128)
    signed = np.ones((64, 64, 3, 3), np.int8)
    return [
        *(Probe(op, op, tokens) for op in plain),
        Probe("LayerNormalization", "LayerNormalization", tokens, {"scale": ones, "bias": 0 * ones}),
        Probe("Softmax", "Softmax", heads),
        Probe("Transpose", "Transpose", (1, 197, 197, 64), {}, {"perm": [0, 2, 1, 3]}, chained=False),
        Probe("Pow", "Pow", tokens, {"exponent": np.float32(3)}),
        Probe("ReduceMean", "ReduceMean", tokens, {}, {"axes": [-1]}, chained=False),
        Probe("QuantizeLinear", "QuantizeLinear", image, {"s": scale, "z": zero}, chained=False),
        Probe(
            "DequantizeLinear", "DequantizeLinear", image, {"s": scale, "z": zero}, {}, False, np.uint8
        ),
        Probe(
            "Conv.depthwise",
            "Conv",
            (1, 240, 28, 28),
            {"w": np.full((240, 1, 3, 3), 0.1, np.float32)},
            {"group": 240, "pads": [1] * 4},
        ),
        Probe(
            "Conv.int8",
            "QLinearConv",
            image,
            {"xs": scale, "xz": zero, "w": signed, "ws": scale, "wz": np.int8(0), "ys": scale, "yz": zero},
            {"pads": [1] * 4},
            dtype=np.uint8,
        ),
    ]  # fmt: skip


def operator_rates(session: Callable[[bytes], Any], fastest: Callable[..., float]) -> dict[str, float]:
    """Return operations/second of each kind; bytes/second for operators that only move data.

    Parameters
    ----------
    session : callable
        Makes a session of a serialized model.
    fastest : callable
        Seconds of the fastest run of (session, feeds, runs).
    """
    return {probe.kind: _rate(probe, session, fastest) for probe in probes()}


def _rate(probe: Probe, session: Callable[[bytes], Any], fastest: Callable[..., float]) -> float:
    import onnx_ir as ir

    feeds: dict[str, Any] = {
        "x0": np.full(probe.shape, 0.5 if probe.dtype is np.float32 else 130, dtype=probe.dtype)
    }
    lengths = (1, _CHAIN) if probe.chained else (1,)
    models = [_model(probe, length) for length in lengths]
    times = [fastest(session(model.SerializeToString()), feeds, _RUNS) for model in models]
    seconds = (times[-1] - times[0]) / (lengths[-1] - 1) if probe.chained else times[0]
    node = ir.from_proto(models[0]).graph[0]
    amount = operations(node, {}) or float(moved_bytes(Operation(node, {})))
    return amount / max(seconds, 1e-8)


def _model(probe: Probe, length: int) -> Any:
    """Return the operator ``length`` times in a row, shapes declared everywhere."""
    import onnx
    from onnx import helper, numpy_helper

    names = ["x0", *(f"t{i}" for i in range(length - 1)), "y0"]
    weights: Sequence[str] = list(probe.weights)
    nodes = [
        helper.make_node(probe.op, [names[i], *weights], [names[i + 1]], **probe.attributes)
        for i in range(length)
    ]
    code = helper.np_dtype_to_tensor_dtype(np.dtype(probe.dtype))
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x0", code, probe.shape)],
        [helper.make_empty_tensor_value_info("y0")],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in probe.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)
