"""Costs read from files."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from onnx_pipeline.costmodel import cost_model, load_device
from onnx_pipeline.costmodel.request import CostRequest
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.source import load


@pytest.fixture
def request_(tmp_path: Path) -> CostRequest:
    """A chain of three named nodes, a, b and c."""
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[4] x) => (float[4] z) { [a] p = Relu(x)
            [b] q = Neg(p)
            [c] z = Exp(q) }"""
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    source = load(path)
    return CostRequest(source, {}, executable_nodes(source), {}, None, load_device("cpu"))


def csv(folder: Path, text: str) -> str:
    """Write a CSV file; return its path."""
    path = folder / "costs.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_csv(request_: CostRequest, tmp_path: Path) -> None:
    """Microseconds become nanoseconds; further columns and blank lines are ignored."""
    text = '\ufeffop,node,work_us\nRelu,a,1.5\nNeg,"b",2\n\nExp,c,0\n'
    costs = cost_model(csv(tmp_path, text))(request_)
    assert costs.work_ns == {"a": 1500, "b": 2000, "c": 0}
    assert costs.kind == "file"
    assert costs.meta["file"] == "costs.csv"


def test_costs_json(request_: CostRequest, tmp_path: Path) -> None:
    """COSTS.json gives its work back, with its provenance; a node for several ONNX nodes is shared."""
    builder = GraphBuilder("g", meta={"provider": "X"}, ticks_per_second=NS)
    builder.add_node("front", 1001, onnx_nodes=["a", "b"])
    builder.add_node("c", 7)
    builder.add_net("q", 0, [1], nbytes=16, extra=30)
    builder.add_group("w", 5, [1])
    path = tmp_path / "COSTS.json"
    write_graph(builder.build(), path)
    costs = cost_model(str(path))(request_)
    assert costs.work_ns == {"a": 500.5, "b": 500.5, "c": 7}
    assert (costs.border_ns, costs.parameter_bytes) == ({"q": 30}, {"w": 5})
    assert costs.meta["provider"] == "X"


def test_duplicate_onnx_nodes(tmp_path: Path) -> None:
    """An ONNX node cannot have two costs."""
    builder = GraphBuilder("g", ticks_per_second=NS)
    builder.add_node("one", 1, onnx_nodes=["a"])
    builder.add_node("two", 1, onnx_nodes=["a"])
    path = tmp_path / "COSTS.json"
    write_graph(builder.build(), path)
    with pytest.raises(InputError, match="two entries cost the ONNX node 'a'"):
        cost_model(str(path))


def test_other_nodes_are_listed(request_: CostRequest, tmp_path: Path) -> None:
    """Missing and unknown nodes are named, the first five of many, with the counts."""
    rows = "".join(f"other{i},1\n" for i in range(7))
    model = cost_model(csv(tmp_path, f"node,work_us\na,1\n{rows}"))
    with pytest.raises(InputError) as caught:
        model(request_)
    message = str(caught.value)
    assert "no cost for 2 of the model's 3 nodes: b, c;" in message
    assert (
        "7 nodes that the model does not have: other0, other1, other2, other3, other4 and 2 more" in message
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected one column 'node'"),
        ("name,work_us\n", "line 1: expected one column 'node'"),
        ("node,node,work_us\n", "line 1: expected one column 'node'"),
        ("node,work\n", "line 1: expected one column 'work_us'"),
        ("node,work_us\na,1\nb\n", "line 3: 1 value for 2 columns"),
        ("node,work_us\na,fast\n", "line 2: work_us must be a finite number >= 0, got 'fast'"),
        ("node,work_us\na,-1\n", "line 2: work_us"),
        ("node,work_us\na,nan\n", "line 2: work_us"),
        ("node,work_us\na,inf\n", "line 2: work_us"),
        ("node,work_us\na,1\na,2\n", "line 3: node 'a' repeats"),
        ('node,work_us\n"a,1\n', "line 2: unexpected end"),
    ],
)
def test_malformed_csv(tmp_path: Path, text: str, message: str) -> None:
    """Every mistake is one line with the file and the line, before any model is looked at."""
    path = csv(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        cost_model(path)
    assert str(caught.value).startswith(path)


def test_unusable_files(tmp_path: Path) -> None:
    """Missing files, directories, binary files and malformed JSON are input errors."""
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "folder.csv").mkdir()
    for name in ("absent.csv", "absent.json", "binary.csv", "broken.json", "folder.csv"):
        with pytest.raises(InputError, match=name):
            cost_model(str(tmp_path / name))


def test_unknown_name() -> None:
    """What is neither a name nor a path lists the names."""
    with pytest.raises(UsageError, match="unknown cost model 'guess': give profile, analytic"):
        cost_model("guess")
