"""What slices cost: measured with onnxruntime, or computed; a slice of 1/q is not 1/q."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from onnx_pipeline.costmodel.request import CostRequest
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.model.shapes import TensorInfo
from onnx_pipeline.ort.providers import CPU
from onnx_pipeline.slices.graphs import Shares, ideal_shares
from onnx_pipeline.slices.operators import piece_attributes
from onnx_pipeline.slices.slicing import Slicing
from onnx_pipeline.slices.which import Sliceable

_FORMAT = 1
#: Rounds of a measurement, and for how long there are more of them.
_ROUNDS, _MOST, _SECONDS = 5, 40, 1.0
#: What is quicker runs once more before every timed run, as in profiles.
_QUICK = 0.02


class SliceCosts(Protocol):
    """What it takes to know the shares of slices."""

    def __call__(self, sliceable: Sliceable, slicing: Slicing) -> Shares:
        """Return the shares of one slicing."""


@dataclass(frozen=True)
class ComputedShares:
    """Shares as the analytic cost model prices whole, slices and Concat.

    Attributes
    ----------
    request : CostRequest
        Of the whole model: its shapes and device.
    """

    request: CostRequest

    def __call__(self, sliceable: Sliceable, slicing: Slicing) -> Shares:
        """Return the shares of one slicing."""
        nodes = [member.node for member in sliceable.members]
        whole = self._price(nodes, self.request.infos)
        if whole <= 0:
            return ideal_shares(slicing)
        parts = {
            width: self._price(nodes, _narrowed_infos(sliceable, self.request.infos, width)) / whole
            for width in set(slicing.widths)
        }
        # As the Concat is priced: every byte is read and written.
        info = self.request.infos[str(sliceable.result.name)]
        join = 2 * info.nbytes / self.request.device.memory_bandwidth + self.request.device.launch_overhead
        return Shares(tuple(parts[width] for width in slicing.widths), join / (whole / NS))

    def _price(self, nodes: Sequence[ir.Node], infos: Mapping[str, TensorInfo]) -> float:
        """Return the nanoseconds of some nodes."""
        from onnx_pipeline.costmodel.computed.analytic import analytic

        return sum(analytic(replace(self.request, infos=infos, nodes=nodes)).work_ns.values())


@dataclass(frozen=True)
class MeasuredShares:
    """Shares as onnxruntime takes: models of whole, slices and Concat alone, run in turns.

    Attributes
    ----------
    infos : mapping of str to TensorInfo
        Of the whole model.
    opsets : mapping of str to int
        Operator sets of the model.
    provider : str
        Execution provider.
    threads : int
        Intra-op threads.
    cache : Path or None
        Folder of the cache; None to measure always.
    """

    infos: Mapping[str, TensorInfo]
    opsets: Mapping[str, int]
    provider: str = CPU
    threads: int = 1
    cache: Path | None = None

    def __call__(self, sliceable: Sliceable, slicing: Slicing) -> Shares:
        """Return the shares of one slicing; they are measured once for every operator, shape and part."""
        widths = sorted(set(slicing.widths))
        models = [_alone(sliceable, self.infos, self.opsets, width) for width in (slicing.size, *widths)]
        models.append(_join(sliceable, self.infos, self.opsets, slicing.widths))
        path = self._path(models)
        known = _read(path, len(models) - 1)
        if known is None:
            known = _ratios(models, self.provider, self.threads)
            _write(path, known)
        by_width = dict(zip(widths, known, strict=False))
        return Shares(tuple(by_width[width] for width in slicing.widths), known[-1])

    def _path(self, models: Sequence[_Alone]) -> Path | None:
        import onnxruntime

        from onnx_pipeline.costmodel.cache import processor

        if self.cache is None:
            return None
        document = [_FORMAT, onnxruntime.__version__, self.provider, self.threads, processor()]
        digest = hashlib.sha256(json.dumps(document).encode())
        for each in models:
            digest.update(each.key.encode())
        return self.cache / "profiles" / f"slices-{digest.hexdigest()}.json"


@dataclass(frozen=True)
class _Alone:
    """A few nodes as a model of their own: weights are made up when it is measured."""

    nodes: tuple[onnx.NodeProto, ...]
    inputs: Mapping[str, tuple[ir.DataType, tuple[int, ...]]]
    weights: Mapping[str, tuple[ir.DataType, tuple[int, ...]]]
    given: Mapping[str, ir.TensorProtocol]
    outputs: tuple[str, ...]
    opsets: Mapping[str, int]

    @property
    def key(self) -> str:
        """What the time depends on: operators, attributes and shapes, not names."""
        numbers = {name: f"v{at}" for at, name in enumerate(self._names())}
        parts = []
        for node in self.nodes:
            plain = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
            plain.input.extend(numbers.get(name, "") for name in node.input)
            plain.output.extend(numbers.get(name, "") for name in node.output)
            plain.attribute.extend(sorted(node.attribute, key=lambda each: each.name))
            parts.append(plain.SerializeToString(deterministic=True).hex())
        values = {**self.inputs, **self.weights}
        parts += [f"{numbers[n]} {dtype.name} {list(shape)}" for n, (dtype, shape) in values.items()]
        parts += [f"{numbers[name]} {tensor.tobytes().hex()}" for name, tensor in self.given.items()]
        return json.dumps([parts, [numbers[name] for name in self.outputs], sorted(self.opsets.items())])

    def _names(self) -> list[str]:
        known = itertools.chain(self.inputs, self.weights, self.given)
        made = (name for node in self.nodes for name in node.output)
        return list(dict.fromkeys(itertools.chain(known, made)))

    def model(self) -> tuple[onnx.ModelProto, dict[str, npt.NDArray[Any]]]:
        """Return the model, and inputs for it."""
        rng = np.random.default_rng(0)
        info = onnx.helper.make_tensor_value_info
        weights = [
            onnx.numpy_helper.from_array(_made_up(rng, *kind), name) for name, kind in self.weights.items()
        ]
        held = [onnx.numpy_helper.from_array(np.asarray(t.numpy()), name) for name, t in self.given.items()]
        graph = onnx.helper.make_graph(
            self.nodes,
            "alone",
            [info(name, dtype.value, shape) for name, (dtype, shape) in self.inputs.items()],
            [onnx.ValueInfoProto(name=name) for name in self.outputs],
            [*weights, *held],
        )
        opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return model, {name: _made_up(rng, *kind) for name, kind in self.inputs.items()}


def _alone(
    sliceable: Sliceable, infos: Mapping[str, TensorInfo], opsets: Mapping[str, int], width: int
) -> _Alone:
    """Return the nodes that are sliced, with as many columns or channels as a slice has."""
    narrow = _narrowed_infos(sliceable, infos, width)
    inside = {value for member in sliceable.members for value in member.node.outputs}
    inputs: dict[str, tuple[ir.DataType, tuple[int, ...]]] = {}
    weights: dict[str, tuple[ir.DataType, tuple[int, ...]]] = {}
    given: dict[str, ir.TensorProtocol] = {}
    for member in sliceable.members:
        for index, value in enumerate(member.node.inputs):
            if value is None or value in inside:
                continue
            name = str(value.name)
            kind = narrow[name].dtype, narrow[name].shape or ()
            if index in member.cuts:
                weights[name] = kind
            elif value.const_value is not None and not value.is_graph_input():
                given[name] = value.const_value
            else:
                inputs[name] = kind
    nodes = tuple(_piece(member.node, width) for member in sliceable.members)
    used = {node.domain for node in nodes}
    return _Alone(
        nodes,
        inputs,
        weights,
        given,
        (str(sliceable.result.name),),
        {d: v for d, v in opsets.items() if d in used},
    )


def _piece(node: ir.Node, width: int) -> onnx.NodeProto:
    """Return a node as one of so many channels."""
    proto: onnx.NodeProto = ir.to_proto(node)
    del proto.attribute[:]
    proto.attribute.extend(ir.to_proto(each) for each in piece_attributes(node, width))
    return proto


def _join(
    sliceable: Sliceable, infos: Mapping[str, TensorInfo], opsets: Mapping[str, int], widths: Sequence[int]
) -> _Alone:
    info = infos[str(sliceable.result.name)]
    shape = info.shape or ()
    inputs = {
        f"part{at}": (info.dtype, (*shape[: sliceable.axis], width, *shape[sliceable.axis + 1 :]))
        for at, width in enumerate(widths)
    }
    node = onnx.helper.make_node("Concat", list(inputs), ["whole"], axis=sliceable.axis)
    return _Alone((node,), inputs, {}, {}, ("whole",), {"": opsets.get("", 13)})


def _narrowed_infos(
    sliceable: Sliceable, infos: Mapping[str, TensorInfo], width: int
) -> dict[str, TensorInfo]:
    """Return the shapes of a slice, under the names of the whole."""
    narrow = dict(infos)

    def cut(name: str, axis: int) -> None:
        shape = infos[name].shape or ()
        narrow[name] = replace(infos[name], shape=(*shape[:axis], width, *shape[axis + 1 :]))

    for member in sliceable.members:
        cut(str(member.node.outputs[0].name), sliceable.axis)
        for index, axis in member.cuts.items():
            value = member.node.inputs[index]
            if value is not None:
                cut(str(value.name), axis)
    return narrow


def _made_up(rng: np.random.Generator, dtype: ir.DataType, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return numbers with which every operator runs as usual: no zero variances, no infinities."""
    kind = np.dtype(dtype.numpy())
    if kind.kind in "iub":
        return rng.integers(0, 2, shape).astype(kind)
    return (rng.random(shape, dtype=np.float32) + np.float32(0.5)).astype(kind)


def _ratios(models: Sequence[_Alone], provider: str, threads: int) -> list[float]:
    """Return the times of all models but the first by that of the first: medians over rounds of all."""
    from onnx_pipeline.ort.session import SessionSettings, open_session

    settings = SessionSettings([provider], threads)
    clock = time.thread_time if threads == 1 and provider == CPU else time.perf_counter
    calls = []
    for each in models:
        model, feeds = each.model()
        calls.append((open_session(model, settings, what="a slice"), feeds))
        del model
    quick = []
    for session, feeds in calls:
        session.run(None, feeds)
        began = clock()
        session.run(None, feeds)
        quick.append(clock() - began < _QUICK)
    rounds: list[list[float]] = []
    ends = time.perf_counter() + _SECONDS
    while len(rounds) < _ROUNDS or (len(rounds) < _MOST and time.perf_counter() < ends):
        times = []
        for (session, feeds), warm in zip(calls, quick, strict=True):
            if warm:
                session.run(None, feeds)
            began = clock()
            session.run(None, feeds)
            times.append(clock() - began)
        rounds.append(times)
    table = np.array(rounds)
    medians: list[float] = np.median(table[:, 1:] / np.maximum(table[:, :1], 1e-9), axis=0).tolist()
    return medians


def _read(path: Path | None, count: int) -> list[float] | None:
    """Return cached ratios; None where there are none that can be used."""
    if path is None:
        return None
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(known, list) or len(known) != count:
        return None
    fine = all(isinstance(each, float) and 0 <= each < 1e6 for each in known)
    return known if fine else None


def _write(path: Path | None, ratios: Sequence[float]) -> None:
    from onnx_pipeline.files.atomic import new_file

    if path is None:
        return
    # A full or read-only disk costs the next run its time, not this run its result.
    with suppress(OSError), new_file(path) as temporary:
        temporary.write_text(json.dumps(list(ratios)), encoding="utf-8")
