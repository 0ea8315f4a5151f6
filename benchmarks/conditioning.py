"""Costs corrected by all measurements together against costs scaled per stage.

    python -m benchmarks.conditioning [--workloads NAME ...] [-k 8] [--measurements 4] [--seeds 20]
    python -m benchmarks.conditioning --prior

Recorded costs of the public workloads are the truth. The costs that are believed are the truth times a factor
per kind of node and one per node, and a stage is measured with noise. After every measurement the costs are
corrected, the graph is partitioned again, and the best partition measured so far counts: its true bottleneck
over the true optimum, geometric mean over the seeds. The workloads do not name operators: nodes of about the
same work are a kind, which flatters both ways of correcting alike.

``--prior`` fits the standard deviations of :class:`~onnx_pipeline.measurement.conditioning.Prior` to the
stages in docs/fidelity.csv: squared errors of the open loop against the share of the model that a stage is.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.models import ZOO
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.objective import bottleneck
from onnx_pipeline.graph.target import Target
from onnx_pipeline.measurement.conditioning import (
    Observation,
    Prior,
    condition,
    execution_ticks,
    likely_prior,
)
from onnx_pipeline.partition.portfolio import partition

WORKLOADS = ("resnet50_layer", "inceptionv3_layer", "bert24_layer")
TARGET = Target(host_io=False)
KINDS = 12
#: Standard deviations of the logarithms of the factors per kind and per node, and of a measurement.
KIND_ERROR, NODE_ERROR, NOISE = 0.3, 0.1, 0.01
#: The prior that fits these errors.
PRIOR = Prior(0.05, KIND_ERROR, NODE_ERROR)
FIDELITY = Path("docs") / "fidelity.csv"
#: Variants of benchmarks.fidelity that are predicted by the profiled costs.
PROFILED = ("open loop", "equal nodes", "equal parameters", "equal profiled time, one order")

Correct = Callable[[CostGraph, Sequence[Observation], np.ndarray], CostGraph]


def conditioned(graph: CostGraph, seen: Sequence[Observation], kinds: np.ndarray) -> CostGraph:
    """Correct by all observations together."""
    return condition(graph, seen, kinds, likely_prior(graph, seen, kinds, PRIOR))


def scaled(graph: CostGraph, seen: Sequence[Observation], kinds: np.ndarray) -> CostGraph:
    """Scale the nodes of every stage, one measurement after the other: what the last one says counts."""
    for each in seen:
        predicted = np.array(execution_ticks(graph, each.stage_of, len(each.seconds)))
        factors = np.clip(each.seconds * graph.ticks_per_second / np.maximum(predicted, 1), 0.25, 4.0)
        graph = replace(graph, work=np.rint(graph.work * factors[each.stage_of]).astype(np.int64))
    return graph


def campaign(truth: CostGraph, k: int, count: int, seed: int, correct: Correct) -> list[float]:
    """Return the true bottleneck of the best partition measured so far, after every measurement."""
    random = np.random.default_rng(seed)
    kinds = np.argsort(np.argsort(truth.work, kind="stable")) * KINDS // truth.num_nodes
    factors = np.exp(random.normal(0, KIND_ERROR, KINDS)[kinds] + random.normal(0, NODE_ERROR, len(kinds)))
    believed = replace(truth, work=np.rint(truth.work * factors).astype(np.int64))
    seen: list[Observation] = []
    values: list[float] = []
    graph = believed
    for _ in range(count):
        found = partition(graph, k, TARGET, time_limit=2.0, threads=1, seed=0)
        true = np.array(execution_ticks(truth, found.stage_of, k)) / truth.ticks_per_second
        noise = np.full(k, NOISE)
        seen.append(Observation(found.stage_of, true * (1 + random.normal(0, NOISE, k)), noise))
        values.append(float(bottleneck(truth, TARGET, found.stage_of, k)))
        graph = correct(believed, seen, kinds)
    return np.minimum.accumulate(values).tolist()


def simulate(names: Sequence[str], k: int, count: int, seeds: int) -> None:
    """Print the regret after every measurement."""
    header = ["workload", "correction", *(f"after {i + 1}" for i in range(count))]
    print(f"k = {k}, {seeds} seeds\n| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for name in names:
        truth = read_graph(ZOO.parent / "msr" / f"{name}.json")
        best = partition(truth, k, TARGET, time_limit=20.0).upper
        for label, correct in (("per stage", scaled), ("conditioned", conditioned)):
            rows = np.array([campaign(truth, k, count, seed, correct) for seed in range(seeds)]) / best
            means = np.exp(np.log(rows).mean(axis=0))
            print("| " + " | ".join([name, label, *(f"{x:.3f}" for x in means)]) + " |", flush=True)


def fit_prior() -> None:
    """Print the errors of stages by their share of the model, and the standard deviations that fit."""
    with FIDELITY.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] in PROFILED]
    models = FIDELITY.with_name("fidelity-models.csv")
    with models.open(newline="", encoding="utf-8") as file:
        sizes = {row["model"]: (float(row["whole"]), int(row["nodes"])) for row in csv.DictReader(file)}
    shares = np.array([float(row["predicted"]) / sizes[row["model"]][0] for row in rows])
    nodes = np.array([sizes[row["model"]][1] for row in rows])
    errors = np.array([float(row["measured"]) / float(row["predicted"]) - 1 for row in rows])
    usual = (np.abs(errors) < 0.3) & (shares > 0.02)  # beyond, something else than costs is wrong
    # Variance of a stage's error: what all its nodes share, and the mean of as many errors as it has nodes.
    design = np.stack([np.ones(usual.sum()), 1 / (shares * nodes)[usual]], axis=1)
    shared, own = np.linalg.lstsq(design, errors[usual] ** 2, rcond=None)[0]
    print(f"{usual.sum()} of {len(rows)} stages")
    print(f"shared by the nodes of a stage: {np.sqrt(max(shared, 0)):.3f}")
    print(f"of one node, if all weighed alike: {np.sqrt(max(own, 0)):.3f}")
    prior = Prior()
    print(
        f"in use: shared {np.hypot(prior.common, prior.kind):.3f} (common {prior.common}, kind {prior.kind})"
    )
    print(f"in use: node {prior.node}, since as few as a third of the nodes have most of the work")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS))
    parser.add_argument("-k", type=int, default=8)
    parser.add_argument("--measurements", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--prior", action="store_true")
    options = parser.parse_args()
    if options.prior:
        fit_prior()
    else:
        simulate(options.workloads, options.k, options.measurements, options.seeds)


if __name__ == "__main__":
    main()
