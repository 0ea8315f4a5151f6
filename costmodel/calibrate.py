"""Measure this host: what a border between stages costs, and the rates of the analytic cost model.

A border between threads hands tensors over by reference; between processes they go through shared memory.
Rates are those that onnxruntime reaches with one intra-op thread, since that is what stages get.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline.costmodel.borders import (
    process_bandwidth,
    process_handover,
    thread_bandwidth,
    thread_handover,
    timed,
)
from onnx_pipeline.costmodel.cache import processor
from onnx_pipeline.costmodel.computed.operator_rates import operator_rates
from onnx_pipeline.costmodel.devices import CALIBRATED, Device
from onnx_pipeline.errors import UsageError
from onnx_pipeline.ort.session import SessionSettings, open_session
from onnx_pipeline.progress import Progress, silent

TRANSPORTS = ("threads", "processes")
_REPEATS = 7


@dataclass(frozen=True)
class Calibration:
    """Figures of this host; times in seconds, rates per second."""

    transport: str
    call_seconds: float
    tensor_seconds: float
    handover_seconds: float
    bandwidth: float
    peak_flops: dict[str, float]
    memory_bandwidth: float
    launch_overhead: float
    operator_rates: dict[str, float]

    def device(self, name: str) -> Device:
        """Return the device that these figures describe."""
        return Device(
            name=name,
            bandwidth=self.bandwidth,
            transfer_latency=self.tensor_seconds,
            stage_overhead=self.call_seconds + self.handover_seconds,
            peak_flops=self.peak_flops,
            memory_bandwidth=self.memory_bandwidth,
            launch_overhead=self.launch_overhead,
            operator_rates=self.operator_rates,
            source=f"{CALIBRATED} on {processor()}, stages as {self.transport}",
        )


def calibrate(transport: str = "threads", progress: Progress = silent) -> Calibration:
    """Measure this host; takes a few seconds.

    Parameters
    ----------
    transport : str
        ``"threads"`` or ``"processes"``: how the stages will run.
    progress : Progress

    Raises
    ------
    UsageError
        If there is no such transport.
    """
    if transport not in TRANSPORTS:
        raise UsageError(f"unknown transport {transport!r}: give {' or '.join(TRANSPORTS)}")
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("calls", call_costs),
        ("hand-over", thread_handover if transport == "threads" else process_handover),
        ("bandwidth", thread_bandwidth if transport == "threads" else process_bandwidth),
        ("rates", flop_rates),
        ("memory", memory_rates),
        ("operators", lambda: operator_rates(_session, _fastest)),
    ]
    found = []
    for index, (label, step) in enumerate(steps):
        progress("calibrate", index / len(steps), label)
        found.append(step())
    (call, tensor), handover, bandwidth, rates, (memory, launch), own = found
    copies = 1e-6 if transport == "processes" else 0.0  # one memcpy in, set up per tensor
    return Calibration(transport, call, tensor + copies, handover, bandwidth, rates, memory, launch, own)


def write_device(device: Device, path: Path) -> None:
    """Write the TOML file that ``--device`` reads; numbers with three digits, as measured."""
    from onnx_pipeline.files.atomic import new_file

    rates = ", ".join(f"{dtype} = {rate:.3g}" for dtype, rate in device.peak_flops.items())
    own = ", ".join(f"{quoted(kind)} = {rate:.3g}" for kind, rate in device.operator_rates.items())
    bandwidth = '"inf"' if math.isinf(device.bandwidth) else f"{device.bandwidth:.3g}"
    lines = [
        f"name = {quoted(device.name)}",
        f"bandwidth = {bandwidth}  # bytes/second between stages",
        'memory = "inf"  # stages on one host share its memory',
        f'transfer_latency = "{device.transfer_latency * 1e6:.3g}us"  # per tensor',
        f'stage_overhead = "{device.stage_overhead * 1e6:.3g}us"  # per stage and inference',
        f"memory_bandwidth = {device.memory_bandwidth:.3g}  # bytes/second",
        f'launch_overhead = "{device.launch_overhead * 1e6:.3g}us"  # per operator',
        f"peak_flops = {{ {rates} }}  # operations/second, one thread",
        *(
            [f"operator_rates = {{ {own} }}  # operations/second; bytes/second where data is moved"]
            if own
            else []
        ),
        f"source = {quoted(device.source)}",
    ]
    with new_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def quoted(text: str) -> str:
    """Return a text as TOML writes it; what cannot be encoded, of a strange file name, becomes ``?``."""
    clean = text.encode("utf-8", "replace").decode()
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")  # else as in JSON


def call_costs() -> tuple[float, float]:
    """Return seconds of one onnxruntime call, and of every tensor that goes in and out with it."""
    few, many = 1, 17
    times = {count: _fastest(_session(_identities(count)), _ones(count, (4,)), 200) for count in (few, many)}
    per_tensor = max(0.0, (times[many] - times[few]) / (2 * (many - few)))
    return max(0.0, times[few] - 2 * few * per_tensor), per_tensor


def flop_rates() -> dict[str, float]:
    """Return operations/second that onnxruntime reaches in matrix products, by element type."""
    from onnx import TensorProto

    rates = {}
    size = 512
    for label, code, dtype in (
        ("float64", TensorProto.DOUBLE, np.float64),
        ("float32", TensorProto.FLOAT, np.float32),
    ):
        a = np.full((size, size), 0.5, dtype=dtype)
        model = _model([("MatMul", ["x0", "w"], ["y0"])], code, (size, size), code, {"w": a})
        rates[label] = 2 * size**3 / _fastest(_session(model), {"x0": a}, _REPEATS)
    byte = np.full((size, size), 3, dtype=np.uint8)
    model = _model(
        [("MatMulInteger", ["x0", "w"], ["y0"])],
        TensorProto.UINT8,
        (size, size),
        TensorProto.INT32,
        {"w": np.full((size, size), 3, dtype=np.int8)},
    )
    rates["int8"] = 2 * size**3 / _fastest(_session(model), {"x0": byte}, _REPEATS)
    return rates


def memory_rates() -> tuple[float, float]:
    """Return bytes/second that a large elementwise kernel moves, and seconds that a tiny kernel takes."""
    from onnx import TensorProto

    count = 1 << 20
    wide = _model([("Neg", ["x0"], ["y0"])], TensorProto.FLOAT, (count,), TensorProto.FLOAT, {})
    seconds = _fastest(_session(wide), {"x0": np.ones(count, np.float32)}, 5 * _REPEATS)
    length = 101

    def chain(nodes: int) -> bytes:
        names = ["x0", *(f"t{i}" for i in range(nodes - 1)), "y0"]
        steps = [("Neg", [a], [b]) for a, b in pairwise(names)]
        return _model(steps, TensorProto.FLOAT, (4,), TensorProto.FLOAT, {})

    times = [_fastest(_session(chain(n)), _ones(1, (4,)), 100) for n in (1, length)]
    return 8 * count / seconds, max(0.0, (times[1] - times[0]) / (length - 1))


def _identities(count: int) -> bytes:
    from onnx import TensorProto

    nodes = [("Neg", [f"x{i}"], [f"y{i}"]) for i in range(count)]
    return _model(nodes, TensorProto.FLOAT, (4,), TensorProto.FLOAT, {})


def _model(
    nodes: Sequence[tuple[str, list[str], list[str]]],
    dtype: int,
    shape: tuple[int, ...],
    out_dtype: int,
    weights: dict[str, np.ndarray[Any, Any]],
) -> bytes:
    """Return a model whose inputs are called x0, x1, ... and whose outputs y0, y1, ..."""
    from onnx import helper, numpy_helper

    reads = dict.fromkeys(name for _, inputs, _ in nodes for name in inputs if name.startswith("x"))
    writes = dict.fromkeys(name for _, _, outputs in nodes for name in outputs if name.startswith("y"))
    graph = helper.make_graph(
        [helper.make_node(op, inputs, outputs) for op, inputs, outputs in nodes],
        "calibration",
        [helper.make_tensor_value_info(name, dtype, shape) for name in reads],
        [helper.make_tensor_value_info(name, out_dtype, shape) for name in writes],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _session(model: bytes) -> Any:
    return open_session(model, SessionSettings(threads=1))


def _ones(count: int, shape: tuple[int, ...]) -> dict[str, np.ndarray[Any, Any]]:
    return {f"x{i}": np.ones(shape, np.float32) for i in range(count)}


def _fastest(session: Any, feeds: dict[str, np.ndarray[Any, Any]], runs: int) -> float:
    session.run(None, feeds)
    return min(timed(lambda: session.run(None, feeds)) for _ in range(runs))
