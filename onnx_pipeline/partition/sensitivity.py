"""How sensitive a partition is to errors in the costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.objective import bottleneck
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.portfolio import solve
from onnx_pipeline.partition.result import PartitionResult
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.settings import check

#: A rival wins when it is better by more than this: nobody could measure less.
MARGIN = 0.005


@dataclass(frozen=True)
class Sensitivity:
    """What happens to a partition when each node's work is wrong by up to ``perturb``.

    Attributes
    ----------
    perturb : float
        Every node's work was multiplied by a factor from ``[1 - perturb, 1 + perturb]``.
    samples : int
    seed : int
    bottleneck_seconds : tuple of float
        Bottleneck of this partition per sample, ascending.
    regret : tuple of float
        Per sample, by which fraction this partition's bottleneck exceeds the best one found, ascending.
    wins : float
        Share of the samples in which another partition is better by more than 0.5 %.
    """

    perturb: float
    samples: int
    seed: int
    bottleneck_seconds: tuple[float, ...]
    regret: tuple[float, ...]
    wins: float

    def to_json(self) -> dict[str, Any]:
        """Return the ``sensitivity`` object of PLAN.json."""
        return {
            "perturb": self.perturb,
            "samples": self.samples,
            "seed": self.seed,
            "bottleneck_seconds": _quantiles(self.bottleneck_seconds),
            "regret": _quantiles(self.regret),
            "other_partition_wins": self.wins,
        }


def sensitivity(
    result: PartitionResult,
    *,
    perturb: float = 0.1,
    samples: int = 50,
    seed: int = 0,
    time_limit: float = 10.0,
    threads: int | None = None,
    progress: Progress = silent,
) -> Sensitivity:
    """Evaluate a partition under perturbed work, and search every perturbed graph for a better one.

    Where no stage of the partition was to stay empty, none of a better one may.

    Parameters
    ----------
    result : PartitionResult
    perturb : float
        Largest relative error of a node's work, in (0, 1); uniform and independent between nodes.
    samples : int
    seed : int
        Seed of the factors and of the searches.
    time_limit : float
        Seconds for all searches together.
    threads : int, optional
        Threads of the searches.
    progress : Progress

    Raises
    ------
    UsageError
        If a parameter is out of range.

    Notes
    -----
    Independent errors partly cancel within a stage: errors that concern a whole kind of operator can have
    a larger effect.
    """
    perturb, samples = check("perturb", perturb), check("samples", samples)
    exactly = result.partition.exactly
    search = SearchParams(time_limit, seed=seed, threads=threads, exactly=exactly).shared(samples)
    rng = np.random.default_rng(search.seed)
    graph, ours, best = result.graph, [], []
    for index in range(samples):
        factors = rng.uniform(1 - perturb, 1 + perturb, graph.num_nodes)
        work = np.rint(graph.work * factors).astype(np.int64)
        other = replace(graph, work=work)
        own = graph.seconds(bottleneck(other, result.target, result.stage_of, result.stages))
        try:
            found = solve(other, result.stages, result.target, search)
        except InfeasibleError:  # not found in this time: memory does not depend on work
            rival = own
        else:
            if found.interrupted:
                raise KeyboardInterrupt
            rival = found.graph.seconds(found.upper)
        ours.append(own)
        best.append(rival)
        progress("perturb", (index + 1) / samples, "")
    regret = [max(0.0, own / other - 1 if other else 0.0) for own, other in zip(ours, best, strict=True)]
    return Sensitivity(
        perturb,
        samples,
        search.seed,
        tuple(sorted(ours)),
        tuple(sorted(regret)),
        sum(value > MARGIN for value in regret) / samples,
    )


def _quantiles(values: tuple[float, ...]) -> dict[str, float]:
    points = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "max": 1.0}
    return {name: float(np.quantile(values, q)) for name, q in points.items()}
