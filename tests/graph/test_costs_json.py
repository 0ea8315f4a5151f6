"""COSTS.json round trip, the MSR format, and what malformed files are told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costs_json import graph_to_json, read_graph, write_graph
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.pipeline import plan
from onnx_pipeline.planfile import plan_document
from tests.random_graphs import random_graph


def test_round_trip(tmp_path: Path) -> None:
    """Writing and reading gives the same document for random graphs."""
    rng = np.random.default_rng(0)
    for i in range(30):
        graph = random_graph(rng)
        write_graph(graph, tmp_path / f"{i}.json")
        assert graph_to_json(read_graph(tmp_path / f"{i}.json")) == graph_to_json(graph)


def test_msr(msr_dir: Path) -> None:
    """A real workload: one tensor per producing node, milliseconds become ticks without loss."""
    graph = read_graph(msr_dir / "bert24_layer.json")
    assert graph.num_nodes == 32
    assert graph.seconds(int(graph.work.sum())) == pytest.approx(92.406e-3, rel=1e-12)
    assert graph.net_time is not None
    assert (graph.colocation >= 0).all()
    assert graph.meta["host_io"] is False
    assert graph.meta["file_memory_bytes"] == 17185374208
    free = read_graph(msr_dir / "bert24_layer.json", ignore_colocation=True)
    assert (free.colocation == -1).all()


GOOD_TENSOR = {"name": "t", "producer": "a", "consumers": ["b"], "bytes": 3}
GOOD: dict[str, Any] = {
    "format": "onnx-pipeline/costs",
    "format_version": 1,
    "name": "g",
    "nodes": [{"name": "a", "work_ns": 1}, {"name": "b", "work_ns": 2}],
    "tensors": [GOOD_TENSOR],
    "parameters": [],
}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "other", "neither COSTS.json"),
        (("format_version",), 9, "version 1"),
        (("nodes",), {}, "nodes: expected a list"),
        (("nodes", 0), 3, r"nodes\[0\]: expected an object"),
        (("nodes", 0, "work_ns"), -1, r"nodes\[0\]: 'work_ns'"),
        (("tensors", 0, "bytes"), 1.5, "must be an integer"),
        (("ticks_per_second",), 999, "power of ten"),
        (("nodes", 0, "work_ns"), True, "must be a number"),
        (("nodes", 1, "name"), "a", "two nodes are called 'a'"),
        (("tensors", 0, "consumers"), ["zz"], r"tensors\[0\]: unknown node 'zz'"),
        (("tensors", 0, "consumers"), ["a"], "cycle"),
        (("tensors", 0, "producer"), [], "unknown node"),
        (("parameters",), None, "parameters: expected a list"),
        (("tensors", 0, "bytes"), 2**57, "more than can be counted"),
        (("tensors", 0, "bytes"), 10**40, "not a number from"),
        (("nodes", 0, "stage"), 10**19, "'stage' must be"),
        (("nodes", 0, "stage"), 100_000, "'stage' must be below 100000"),
        (("tensors",), [GOOD_TENSOR, GOOD_TENSOR], r"tensors\[1\]: two tensors are called 't'"),
        (("meta",), {"corrections": "many"}, "'corrections' must be a number"),
        (("meta",), {"cost_model": 3}, "'cost_model' must be a string"),
        (("meta",), {"host_io": "no"}, "'host_io' must be true or false"),
    ],
)
def test_malformed(tmp_path: Path, path: tuple[str | int, ...], value: object, message: str) -> None:
    """Every malformed entry is named with its place."""
    document = json.loads(json.dumps(GOOD))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match=message) as error:
        read_graph(file)
    assert str(error.value).startswith(str(file))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "\x00\x01", "[" * 100_000])
def test_not_json(tmp_path: Path, text: str) -> None:
    """Anything that is not a JSON object is refused in one line."""
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        read_graph(file)
    assert "\n" not in str(error.value)


def test_missing(tmp_path: Path) -> None:
    """A missing file and a folder are named."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_graph(path)


def test_border_costs_survive(tmp_path: Path) -> None:
    """COSTS.json keeps what a cut adds to a tensor."""
    b = GraphBuilder("pair", ticks_per_second=NS)
    u, v = b.add_node("u", 1), b.add_node("v", 2)
    b.add_net("t", u, [v], nbytes=3, extra=5)
    b.add_net("s", u, [v], nbytes=4)
    write_graph(b.build(), tmp_path / "c.json")
    again = read_graph(tmp_path / "c.json")
    assert again.net_extra is not None
    assert again.net_extra.tolist() == [5, 0]


def test_no_limit_in_an_msr_file(tmp_path: Path) -> None:
    """A size beyond any memory means "no limit": the plan is one for unlimited devices."""
    file = tmp_path / "w.json"
    node = {"id": 0, "fpgaLatency": 1.0, "size": 1000.0}
    file.write_text(json.dumps({"maxSizePerFPGA": 1e30, "nodes": [node], "edges": []}))
    result = plan(file, stages=1, memory="file", time_limit=0.1, threads=1)
    assert math.isinf(result.target.memory)
    document = json.loads(json.dumps(plan_document(result, file), allow_nan=False))
    assert document["target"]["memory_bytes"] is None
