"""Shares of slices: computed as the sliced model is priced, measured once for every shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from onnx_pipeline.costmodel.computed.analytic import analytic
from onnx_pipeline.costmodel.devices import load_device
from onnx_pipeline.costmodel.request import CostRequest
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import load
from onnx_pipeline.slices import costs as module
from onnx_pipeline.slices.costs import ComputedShares, MeasuredShares
from onnx_pipeline.slices.rewrite import rewrite
from onnx_pipeline.slices.slicing import describe
from onnx_pipeline.slices.which import Sliceable, find
from tests.slices.nets import MODELS


@pytest.mark.parametrize("name", ["mlp", "gemms", "convnet", "integers"])
def test_computed_shares_are_those_of_the_sliced_model(name: str) -> None:
    """Slices and Concat of every node cost what the analytic model says of the sliced model."""
    source = load(MODELS[name]())
    infos, nodes = value_infos(source), executable_nodes(source)
    request = CostRequest(source, infos, nodes, {}, None, load_device("cpu"))
    before = analytic(request).work_ns
    found = [each for each in find(source, infos).values() if isinstance(each, Sliceable)]
    slicings = [describe(each, each.most, infos) for each in found]
    shares = [ComputedShares(request)(*pair) for pair in zip(found, slicings, strict=True)]
    rewrite(source, infos, [(each, each.most) for each in found])
    after = load(source.ir)
    now = replace(request, source=after, infos=value_infos(after), nodes=executable_nodes(after))
    priced = analytic(now).work_ns
    for slicing, share in zip(slicings, shares, strict=True):
        whole = sum(before[name] for name in slicing.members)
        for pieces, part in zip(slicing.pieces, share.parts, strict=True):
            assert sum(priced[piece] for piece in pieces) == pytest.approx(part * whole)
        assert priced[slicing.joined] == pytest.approx(share.join * whole)
        assert share.total > 1


def test_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache knows an operator and its shapes, whatever the names; a damaged entry is measured again."""
    calls = []
    measure = module._ratios

    def counted(models: list[module._Alone], provider: str, threads: int) -> list[float]:
        calls.append(models)
        return measure(models, provider, threads)

    monkeypatch.setattr(module, "_ratios", counted)
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    source = load(MODELS["gemms"]())
    infos = value_infos(source)
    shares = MeasuredShares(infos, source.ir.opset_imports, cache=tmp_path)
    found = find(source, infos)
    each = found["gemm0"]
    assert isinstance(each, Sliceable)
    slicing = describe(each, 2, infos)
    first = shares(each, slicing)
    assert len(first.parts) == 2
    assert all(0 < part < 5 for part in (*first.parts, first.join))
    assert shares(each, slicing) == first
    assert len(calls) == 1
    other = load(MODELS["gemms"]())
    for value in (*other.ir.graph.inputs, *other.ir.graph.initializers.values()):
        value.name = f"other_{value.name}"
    renamed = find(other, value_infos(other))["gemm0"]
    assert isinstance(renamed, Sliceable)
    again = MeasuredShares(value_infos(other), other.ir.opset_imports, cache=tmp_path)
    assert again(renamed, describe(renamed, 2, value_infos(other))) == first
    assert len(calls) == 1
    shares(each, describe(each, 3, infos))
    assert len(calls) == 2
    for path in tmp_path.glob("profiles/*.json"):
        path.write_text("[1.0]")
    shares(each, slicing)
    assert len(calls) == 3


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_operator_can_be_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured alone runs: all operators, their followers and the Concat."""
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    monkeypatch.setattr(module, "_ROUNDS", 1)
    source = load(MODELS[name]())
    infos = value_infos(source)
    shares = MeasuredShares(infos, source.ir.opset_imports)
    for each in find(source, infos).values():
        if isinstance(each, Sliceable):
            assert all(part > 0 for part in shares(each, describe(each, 2, infos)).parts)
