"""The list of cuts against the objective and against what a split writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.cuts import even_cut
from onnx_pipeline import manifest
from onnx_pipeline.borders.crossings import MODEL, cuts, links
from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.objective import stage_costs
from onnx_pipeline.planned import read_result
from tests.random_graphs import random_graph, random_target
from tests.splitting import save, split

#: ``s`` skips a stage, ``x`` and ``y`` belong to the model, ``t`` has two readers in one stage.
SKIP = """m (float[N, 4] x) => (float[N, 4] y, float[N, 4] t) {
    s = Relu(x)  t = Neg(s)  u = Abs(t)  v = Add(t, u)  y = Mul(s, v)
}"""


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_what_crosses_is_what_the_objective_charges(seed: int, stages: int) -> None:
    """Input and output of every stage are the sums of what the list says that it pays."""
    rng = np.random.default_rng(seed)
    graph, target = random_graph(rng), random_target(rng)
    result = even_cut(graph, stages, target)
    paid = [[0.0, 0.0] for _ in range(stages)]
    for crossing in cuts(result):
        for end in crossing.targets:
            if end != MODEL:
                paid[int(end)][0] += crossing.seconds
        if crossing.source != MODEL and (target.host_io or set(crossing.targets) != {MODEL}):
            paid[int(crossing.source)][1] += crossing.seconds
    for cost, (incoming, outgoing) in zip(
        stage_costs(result.graph, target, result.stage_of, stages, up=True), paid, strict=True
    ):
        assert incoming == pytest.approx(result.graph.seconds(cost.input))
        assert outgoing == pytest.approx(result.graph.seconds(cost.output))


def test_the_cuts_of_a_split_are_those_of_its_manifest(tmp_path: Path) -> None:
    """The same tensors with the same sources, targets and sizes; concrete shapes, producers, consumers."""
    document = split(save(tmp_path, SKIP), tmp_path / "out", 3, dims={"N": 8})
    found = cuts(tmp_path / "out")
    wired = {(port.name, port.source): port.bytes for stage in document.stages for port in stage.inputs}
    assert {(c.tensor, c.source): c.bytes for c in found if c.consumers} == wired
    outgoing = {port.name: set(port.targets) for stage in document.stages for port in stage.outputs}
    assert {c.tensor: set(c.targets) for c in found if c.source != MODEL} == outgoing
    skip = next(c for c in found if c.tensor == "s")
    assert (skip.dtype, skip.shape, skip.bytes) == ("float32", (8, 4), 128)
    names = manifest.read(tmp_path / "out").stages
    assert skip.producer in names[int(skip.source)].node_names
    for stage, readers in skip.consumers.items():
        assert set(readers) <= set(names[stage].node_names)


def test_links_are_in_pipeline_order(tmp_path: Path) -> None:
    """Inputs first; what skips comes after what goes to the next stage, outputs last."""
    split(save(tmp_path, SKIP), tmp_path / "out", 3)
    pairs = list(links(cuts(tmp_path / "out")))
    assert pairs[0] == (MODEL, 0)
    assert pairs.index((0, 1)) < pairs.index((0, 2)) < pairs.index((1, 2))
    assert pairs[-1] == (2, MODEL)


def test_costs_of_another_split_are_refused(tmp_path: Path) -> None:
    """Their partition costs something else, so the cuts would be wrong as well."""
    split(save(tmp_path, SKIP), tmp_path / "out", 3)
    costs = tmp_path / "out" / "costs.json"
    costs.write_text(costs.read_text().replace('"work_ns": 1000', '"work_ns": 2000'))
    with pytest.raises(InputError, match=r"costs\.json: the bottleneck is"):
        read_result(tmp_path / "out")
    with pytest.raises(InputError, match="no such file"):
        read_result(tmp_path / "none")
