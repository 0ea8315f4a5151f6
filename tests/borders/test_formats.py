"""The cuts as CSV, as pictures, and as data for Model Explorer."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET

import pytest

from benchmarks.cuts import even_cut
from onnx_pipeline.borders.crossings import cuts
from onnx_pipeline.borders.formats import FORMATS
from onnx_pipeline.borders.overlay import STAGE_COLOURS, stage_data, work_data
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.partition.result import PartitionResult

#: Characters that mean something in at least one of the formats.
HOSTILE = 'a"b|c]<script>alert(1)</script>#;\\n,{}'


@pytest.fixture
def result() -> PartitionResult:
    """Three stages of one node; the first tensor, of a hostile name, goes to both others."""
    b = GraphBuilder("g")
    nodes = [b.add_node(f"n{i}", 1e6 * (i + 1)) for i in range(3)]
    b.add_net("x", HOST, nodes[:1], nbytes=8, kind=("float32", (2,)))
    b.add_net(HOSTILE, nodes[0], nodes[1:], nbytes=16, kind=("float32", (2, 2)))
    b.add_net("m", nodes[1], nodes[2:], nbytes=4, kind=("int32", ()))
    b.add_net("y", nodes[2], [], nbytes=4, to_host=True)
    return even_cut(b.build(), 3)


def test_csv_has_a_row_per_tensor_and_target(result: PartitionResult) -> None:
    """Read back by a CSV reader, whatever the names are."""
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](cuts(result), result))))
    assert [(row["tensor"], row["source"], row["target"]) for row in rows] == [
        ("x", "model", "0"),
        (HOSTILE, "0", "1"),
        (HOSTILE, "0", "2"),
        ("m", "1", "2"),
        ("y", "2", "model"),
    ]
    assert [row["shape"] for row in rows] == ["2", "2x2", "2x2", "scalar", ""]
    assert [row["consumers"] for row in rows] == ["n0", "n1", "n2", "n2", ""]


def test_graphviz_draws_what_dot_says(result: PartitionResult) -> None:
    """A hostile name stays text; every stage has its box, every pair of ends its arrow."""
    pygraphviz = pytest.importorskip("pygraphviz")
    drawn = pygraphviz.AGraph(FORMATS["dot"](cuts(result), result))
    assert set(drawn.nodes()) == {"inputs", "stage0", "stage1", "stage2", "outputs"}
    assert set(drawn.edges()) == {
        ("inputs", "stage0"),
        ("stage0", "stage1"),
        ("stage0", "stage2"),
        ("stage1", "stage2"),
        ("stage2", "outputs"),
    }
    assert HOSTILE.replace("\\", "\\\\") in drawn.get_edge("stage0", "stage1").attr["tooltip"]
    svg = ET.fromstring(FORMATS["svg"](cuts(result), result))
    assert not [element for element in svg.iter() if element.tag.endswith("script")]
    assert "stage 2" in [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]


def test_mermaid_keeps_names_out_of_its_syntax(result: PartitionResult) -> None:
    """What means something to Mermaid or HTML is written as an entity."""
    text = FORMATS["mermaid"](cuts(result), result)
    assert text.startswith("flowchart LR\n")
    assert "<script" not in text
    line = next(line for line in text.splitlines() if line.startswith("  stage0 -->") and "stage1" in line)
    assert line.count('"') == 2
    assert line.count("|") == 2


def test_node_data_is_what_model_explorer_reads(result: PartitionResult) -> None:
    """Results by node name at the top level: a value each, colours as six digits."""
    stages = stage_data(result)["results"]
    assert [stages[f"n{i}"]["value"] for i in range(3)] == ["stage 0", "stage 1", "stage 2"]
    assert [stages[f"n{i}"]["bgColor"] for i in range(3)] == list(STAGE_COLOURS[:3])
    work = work_data(result)
    assert [work["results"][f"n{i}"]["value"] for i in range(3)] == [1000, 2000, 3000]
    assert [stop["stop"] for stop in work["gradient"]] == [0, 1]
