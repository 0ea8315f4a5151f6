"""Exact questions with replicas against brute force, and the simple bound."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.replicas import capacities
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.replicas import ideals
from onnx_pipeline.partition.replicas.bound import simple_period
from onnx_pipeline.partition.replicas.known import Known
from onnx_pipeline.partition.replicas.slicing import divide, price_segments
from onnx_pipeline.partition.search.tapes import make_tape
from onnx_pipeline.stop import never
from tests.random_graphs import random_graph, random_target
from tests.replica_oracle import brute_force_period


def cases(count: int, seed: int) -> Iterator[tuple[CostGraph, Target, int, Fraction]]:
    """Yield random (graph, target, N, optimum) without pins, where the hard limit can be met."""
    rng = np.random.default_rng(seed)
    while count:
        devices = int(rng.integers(1, 7))
        graph, target = random_graph(rng, 6), random_target(rng)
        optimum = brute_force_period(graph, target, devices)
        if optimum is not None:
            count -= 1
            yield graph, target, devices, optimum


def test_questions_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """From either end, contracted or not: nothing below the optimum, the optimum just above it."""
    monkeypatch.setattr(ideals, "CHUNK", 7)  # pauses all the time
    for i, (graph, target, devices, optimum) in enumerate(cases(400, 1)):
        inst = build(graph, target)
        inst = contract(inst) if i % 2 else inst
        search = ideals.ReplicaSearch(inst, reverse=i % 4 < 2)
        assert search.ask(capacities(optimum, devices), 10**6, never).proved_none
        answer = search.ask(capacities(optimum + Fraction(1, 1000), devices), 10**6, never)
        assert answer.stage_of is not None
        known = Known(graph, target, devices)
        assert known.offer(inst.expand(answer.stage_of), "ideals")
        assert known.period == optimum


def test_simple_bound_never_exceeds_the_optimum() -> None:
    """And is the optimum where memory is unlimited: a replica of the whole model on every device."""
    met = 0
    for graph, target, devices, optimum in cases(400, 2):
        bound = simple_period(build(graph, target), devices)
        assert bound <= optimum
        if target.memory == np.inf:
            assert bound == optimum
            met += 1
    assert met > 100


def test_slicing_finds_the_best_cut_of_an_order() -> None:
    """On chains of nodes there is one order: slicing is exact, pins included."""
    rng = np.random.default_rng(3)
    done = 0
    while done < 150:
        devices = int(rng.integers(1, 6))
        graph = random_graph(rng, 5, colocation=False, pins=devices if done % 2 else 0)
        inst = build(graph, target := random_target(rng, activations=done % 3 == 0))
        heads, tails = inst.edges()
        if set(range(inst.n - 1)) - {int(u) for u, v in zip(heads, tails, strict=True) if v == u + 1}:
            continue
        optimum = brute_force_period(graph, target, devices)
        done += 1
        tape = make_tape(inst, np.arange(inst.n))
        start, buffer = price_segments(tape, (1 << 60) - 1)
        stage = np.zeros(inst.n, dtype=np.int64)
        if optimum is None:
            assert not divide(tape.pin, start, buffer, capacities(None, devices), stage)
            continue
        assert not divide(tape.pin, start, buffer, capacities(optimum, devices), stage)
        above = optimum + Fraction(1, 1000)
        assert divide(tape.pin, start, buffer, capacities(above, devices), stage)
        known = Known(graph, target, devices)
        assert known.offer(inst.expand(stage), "slicing")
        assert known.period == optimum
