"""Gaussian conditioning: against the textbook's dense formulas, and what it must do at the extremes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.measurement.conditioning import (
    LARGEST_FACTOR,
    LEAST_FACTOR,
    Observation,
    Prior,
    condition,
    execution_ticks,
    likely_prior,
)

SIZE = 40
PRIOR = Prior(0.05, 0.1, 0.2)


def chained(works: list[int], extra: int = 0) -> CostGraph:
    """Nodes in a row; every tensor between them costs ``extra`` when it crosses."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    for i, work in enumerate(works):
        b.add_node(f"n{i}", work)
    for i in range(len(works) - 1):
        b.add_net(f"t{i}", i, [i + 1], nbytes=8, extra=extra)
    return b.build()


def random_graph(rng: np.random.Generator) -> tuple[CostGraph, np.ndarray[Any, Any]]:
    """Return a chain with borders, and kinds of its nodes."""
    works = rng.integers(10**8, 10**9, SIZE)
    return chained(works.tolist(), extra=10**6), rng.integers(0, 4, SIZE)


def observed(
    graph: CostGraph, rng: np.random.Generator, stages: int, noise: float, error: float = 0.1
) -> Observation:
    """Return measurements of a random partition, off by up to ``error``."""
    stage_of = np.sort(rng.integers(0, stages, graph.num_nodes))
    stage_of[:stages] = np.sort(stage_of[:stages])
    stage_of = np.searchsorted(np.unique(stage_of), stage_of)
    used = int(stage_of.max()) + 1
    predicted = np.array(execution_ticks(graph, stage_of, used)) / graph.ticks_per_second
    seconds = predicted * (1 + rng.uniform(-error, error, used))
    return Observation(stage_of, seconds, np.full(used, noise))


def textbook(graph: CostGraph, seen: list[Observation], kinds: Any, prior: Prior) -> Any:
    """E[w | y] = w + K A' (A K A' + N)^-1 (y - A w - b), with every matrix written out."""
    work = graph.work.astype(float)
    same = kinds[:, None] == kinds[None, :]
    errors = prior.common**2 + prior.kind**2 * same + prior.node**2 * np.eye(len(work))
    spread = errors * np.outer(work, work)
    rows = [(each.stage_of == s).astype(float) for each in seen for s in range(len(each.seconds))]
    stages = np.array(rows)
    predicted = np.concatenate([execution_ticks(graph, e.stage_of, len(e.seconds)) for e in seen])
    measured = np.concatenate([e.seconds for e in seen]) * graph.ticks_per_second
    noise = np.diag((np.concatenate([e.noise for e in seen]) * measured) ** 2)
    gain = spread @ stages.T @ np.linalg.inv(stages @ spread @ stages.T + noise)
    return work + gain @ (measured - predicted)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_textbooks_conditional_mean(seed: int) -> None:
    """Three partitions of one graph, measured with noise: as with dense matrices over all nodes."""
    rng = np.random.default_rng(seed)
    graph, kinds = random_graph(rng)
    seen = [observed(graph, rng, stages, 0.02) for stages in (2, 5, 8)]
    found = condition(graph, seen, kinds, PRIOR)
    assert found.work == pytest.approx(textbook(graph, seen, kinds, PRIOR), abs=1)
    assert found.meta["corrections"] == 3


def test_without_noise_every_prediction_becomes_its_measurement() -> None:
    """Borders included, for all stages of several partitions at once."""
    rng = np.random.default_rng(1)
    graph, kinds = random_graph(rng)
    truth = replace(graph, work=(graph.work * rng.uniform(0.8, 1.2, SIZE)).astype(np.int64))
    seen = []
    for stages in (3, 4):
        each = observed(graph, rng, stages, 0.0)
        ticks = execution_ticks(truth, each.stage_of, len(each.seconds))
        seen.append(replace(each, seconds=np.array(ticks) / NS))
    found = condition(graph, seen, kinds, PRIOR)
    for each in seen:
        predicted = execution_ticks(found, each.stage_of, len(each.seconds))
        assert predicted == pytest.approx(each.seconds * NS, abs=SIZE)


def test_one_partition_measured_twice_without_noise() -> None:
    """Two equal claims are one; the system that is singular then is still solved."""
    graph, kinds = random_graph(np.random.default_rng(2))
    each = observed(graph, np.random.default_rng(2), 4, 0.0)
    once, twice = condition(graph, [each], kinds, PRIOR), condition(graph, [each, each], kinds, PRIOR)
    assert twice.work == pytest.approx(once.work, rel=1e-4)


def test_endless_noise_changes_nothing() -> None:
    """A measurement that says nothing is not listened to."""
    graph, kinds = random_graph(np.random.default_rng(3))
    found = condition(graph, [observed(graph, np.random.default_rng(3), 4, 1e9)], kinds, PRIOR)
    assert found.work.tolist() == graph.work.tolist()


def test_what_a_kind_costs_is_learnt_elsewhere() -> None:
    """A stage of one kind that takes longer makes that kind dearer in the other stage, and no other."""
    graph = chained([10**6] * 8)
    kinds = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    stage_of = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    seen = Observation(stage_of, np.array([4.4e-3, 4e-3]), np.array([0.0, 1e9]))
    found = condition(graph, [seen], kinds, Prior(0.0, 0.1, 0.05))
    assert found.work[:4].tolist() == pytest.approx([1.1e6] * 4, rel=1e-3)
    assert 1.05e6 < found.work[4] < 1.1e6
    assert found.work[6:].tolist() == [10**6] * 2


def test_corrections_are_bounded() -> None:
    """An absurd measurement does not make costs absurd or negative; a stage without work stays."""
    graph, kinds = chained([1000, 0, 1000]), np.zeros(3, dtype=np.int64)
    seen = Observation(np.array([0, 1, 2]), np.array([1.0, 1.0, 0.0]), np.zeros(3))
    found = condition(graph, [seen], kinds, Prior(0.0, 0.0, 0.1))
    assert found.work.tolist() == [1000 * LARGEST_FACTOR, 0, 1000 * LEAST_FACTOR]


def test_execution_is_work_and_borders() -> None:
    """Changes of layout count on both sides of a cut, the device's transfers do not."""
    graph = chained([10, 20, 30], extra=4)
    assert execution_ticks(graph, [0, 0, 1], 2) == [34, 34]
    assert execution_ticks(graph, [0, 0, 0], 1) == [60]


@pytest.mark.parametrize("written", [None, "three", [1], {"a": 2}, 1e300])
def test_corrections_of_a_file_may_be_anything(written: Any) -> None:
    """A file's own count of corrections is a count or nothing."""
    graph = replace(chained([10, 20]), meta={"corrections": written})
    seen = Observation(np.array([0, 1]), np.array([1e-8, 2e-8]), np.zeros(2))
    assert condition(graph, [seen], np.zeros(2, dtype=np.int64)).meta["corrections"] == 1


@pytest.mark.parametrize("border", [0.0, 0.08])
def test_what_no_costs_explain_is_told_from_errors_of_nodes(border: float) -> None:
    """Stages that share nodes but not their surplus: then less of it is believed of the nodes."""
    rng = np.random.default_rng(7)
    graph, kinds = random_graph(rng)
    factors = rng.normal(1.0, PRIOR.node, SIZE)
    truth = replace(graph, work=(graph.work * factors).astype(np.int64))
    seen = []
    for _ in range(6):
        each = observed(graph, rng, 8, 0.005)
        ticks = np.array(execution_ticks(truth, each.stage_of, len(each.seconds)))
        off = rng.normal(1.0, border, len(ticks)) if border else 1.0
        seen.append(replace(each, seconds=ticks * off / NS))
    likely = likely_prior(graph, seen, kinds, PRIOR)
    assert (likely.misfit >= 0.04) == (border > 0)
    wild = observed(graph, rng, 8, 0.005, error=0.9)
    assert likely_prior(graph, [wild], kinds, PRIOR) == PRIOR
    assert likely_prior(graph, [wild, wild], kinds, PRIOR) != PRIOR
    works = [condition(graph, seen, kinds, prior).work for prior in (PRIOR, likely)]
    errors = [float(np.abs(work / graph.work - factors).mean()) for work in works]
    assert errors[1] < errors[0] * (0.6 if border else 1.01)
