"""Cost models that are functions of somebody else's."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline.costmodel.called import name_of

__version__ = "3.1"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model."""
    onnx.save(builders.mlp(width=8), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def by_name(request: op.CostRequest, factor: float = 1.0) -> op.NodeCosts:
    """Price a node by the length of its name, in a number of numpy's."""
    work = {str(node.name): np.float32(1000 * factor * len(str(node.name))) for node in request.nodes}
    return op.NodeCosts("by-name", work, {"dims": dict(request.dims)})


def test_the_manifest_says_who_was_asked(model: Path, tmp_path: Path) -> None:
    """Kind, name and version; the costs are those of the function, and the outcome verifies."""
    written = op.split(model, stages=2, output=tmp_path / "out", cost_model=by_name, bandwidth="inf")
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["cost_model"]
    assert entry == {"kind": "by-name", "name": f"{__name__}.by_name", "version": "3.1", "dims": {}}
    assert written.certificate["costs"] == "by-name"
    assert op.verify(tmp_path / "out", model=model).ok
    graph = op.profile(model, cost_model=partial(by_name, factor=2))
    work = dict(zip(graph.node_names, graph.work / graph.ticks_per_second, strict=True))
    assert work == pytest.approx({name: 2e-6 * len(name) for name in graph.node_names})
    assert graph.meta["name"] == f"{__name__}.by_name"


def test_names() -> None:
    """Functions, methods and callable objects, as a reader would call them."""

    class Priced:
        def __call__(self, request: op.CostRequest) -> op.NodeCosts:
            return by_name(request)

    assert name_of(by_name) == name_of(partial(by_name)) == f"{__name__}.by_name"
    assert name_of(Priced()).endswith("test_names.<locals>.Priced")


def fails(request: op.CostRequest) -> op.NodeCosts:
    """Fail in code of others."""
    return {}[request.nodes[0].name]


def returns(value: Any) -> Any:
    """Return a cost model that returns this."""

    def strange(request: op.CostRequest) -> Any:
        return value(request) if callable(value) else value

    return strange


def costs(request: op.CostRequest, **fields: Any) -> op.NodeCosts:
    """Costs with something wrong in them."""
    return op.NodeCosts(**{"kind": "x", "work_ns": {str(node.name): 1.0 for node in request.nodes}, **fields})


WRONG = {
    "fails": (fails, r"fails failed: KeyError: 'fc0' \(test_called.py, line \d+\)"),
    "no costs": (returns({"fc0": 1.0}), "returned dict, not NodeCosts"),
    "nodes": (returns(op.NodeCosts("x", {"fc0": 1})), r"gives no work_ns for \d+ of \d+ nodes: relu0, "),
    "negative": (
        returns(lambda r: costs(r, work_ns={"fc0": np.int64(-1)})),
        "'work_ns' of 'fc0' must be a finite number >= 0, got -1.0",
    ),
    "text": (returns(lambda r: costs(r, border_ns={"x": "1us"})), "'border_ns' of 'x' must be a finite"),
    "kind": (returns(lambda r: costs(r, kind="")), "gives no kind of its costs, but ''"),
    "meta": (returns(lambda r: costs(r, meta={"at": {1}})), "costs that cannot be used: .*set is not JSON"),
}


@pytest.mark.parametrize(("function", "message"), WRONG.values(), ids=WRONG)
def test_errors_name_the_function(function: Any, message: str, model: Path) -> None:
    """One line, whatever the function did."""
    with pytest.raises(op.UsageError, match=message) as raised:
        op.profile(model, cost_model=function)
    assert str(raised.value).startswith(f"the cost model {__name__}.")
    assert "\n" not in str(raised.value)


def test_errors_of_this_package_pass(model: Path) -> None:
    """A function that refuses a model with an error of ours is believed."""

    def refuses(request: op.CostRequest) -> op.NodeCosts:
        raise op.InputError(request.source.path, "too wide for this device")

    with pytest.raises(op.InputError, match="too wide for this device"):
        op.profile(model, cost_model=refuses)


@pytest.mark.parametrize("given", [3, "", None])
def test_other_things(given: Any, model: Path) -> None:
    """They are refused before the model is loaded; a path is as good as its text."""
    with pytest.raises(
        op.UsageError, match="cost_model must be the name of a cost model, a file or a function"
    ):
        op.profile("absent.onnx", cost_model=given)
    (model.parent / "costs.csv").write_text("node,work_us\n", encoding="utf-8")
    with pytest.raises(op.InputError, match=r"costs\.csv: no cost for"):
        op.profile(model, cost_model=model.parent / "costs.csv")
