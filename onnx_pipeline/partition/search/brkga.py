"""Biased random-key genetic algorithm over Kahn priorities.

A chromosome is a vector of n keys in [0, 1]; its decoding is Kahn's order by smallest key, sliced
optimally; its fitness is the bottleneck. Good starting orders are seeded as chromosomes, which removes the
weakness of small evaluation budgets that the paper reports.

References
----------
Archer et al. 2024, section 4 and appendix C; Goncalves and Resende, *Biased random-key genetic algorithms
for combinatorial optimization*, Journal of Heuristics 2011.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.jit import kernel
from onnx_pipeline.partition.search import slicing
from onnx_pipeline.partition.search.orders import in_degrees, kahn, keys_of
from onnx_pipeline.partition.search.tapes import Arrays


@dataclass(frozen=True)
class BrkgaParams:
    """Parameters of the algorithm.

    Attributes
    ----------
    population : int
        Chromosomes per generation, at least 4.
    elite : float
        Share that survives unchanged, in (0, 0.5].
    mutants : float
        Share replaced by fresh random chromosomes, in [0, 0.5).
    bias : float
        Probability that a gene comes from the elite parent, in [0.5, 1].
    restart_after : int
        Generations without progress after which all but the best chromosome is renewed.
    """

    population: int = 64
    elite: float = 0.2
    mutants: float = 0.15
    bias: float = 0.7
    restart_after: int = 60

    def __post_init__(self) -> None:
        """Check every range once."""
        for name, ok in (
            ("population", self.population >= 4),
            ("elite", 0 < self.elite <= 0.5),
            ("mutants", 0 <= self.mutants < 0.5),
            ("bias", 0.5 <= self.bias <= 1),
            ("restart_after", self.restart_after >= 1),
        ):
            if not ok:
                raise UsageError(f"BRKGA {name}={getattr(self, name)!r} is out of range")


@kernel
def _evaluate_keys(g, degrees, keys, first, last, k, low, high, cap, fitness, best_order):  # type: ignore[no-untyped-def]
    """Decode and evaluate chromosomes [first, last); keep the order of the best at ``best_order``."""
    ends = np.empty(k, np.int64)
    best = np.int64(cap + 1)
    for i in range(first, last):
        order = kahn(g, degrees, keys[i])
        _, value = slicing.evaluate(g, order, k, low, high, cap, ends)
        fitness[i] = value
        if value < best:
            best = value
            for j in range(order.shape[0]):
                best_order[j] = order[j]
    return best


def brkga(
    g: Arrays,
    k: int,
    low: int,
    seeds: Sequence[IntArray],
    incumbent: int,
    rng: np.random.Generator,
    improved: Callable[[int, IntArray], None],
    stop: Callable[[], bool],
    params: BrkgaParams | None = None,
    max_generations: int | None = None,
) -> int:
    """Evolve priorities until ``stop()``.

    Parameters
    ----------
    g : Arrays
    k : int
        Number of stages.
    low : int
        A lower bound on every bottleneck, in nanoseconds.
    seeds : sequence of int64[n]
        Topological orders for the first population.
    incumbent : int
        Best bottleneck known, in nanoseconds.
    rng : numpy.random.Generator
    improved : callable
        Called with (bottleneck, order) whenever the incumbent falls.
    stop : callable
        Asked between chunks of a generation.
    params : BrkgaParams, optional
    max_generations : int, optional

    Returns
    -------
    int
        Number of orders evaluated.
    """
    params = params or BrkgaParams()
    n, size = len(g.work), params.population
    elite, mutants = max(1, int(size * params.elite)), int(size * params.mutants)
    degrees = in_degrees(g)
    keys = rng.random((size, n))
    for i, order in enumerate(seeds[:size]):
        keys[i] = keys_of(order)
    fitness = np.empty(size, dtype=np.int64)
    best_order = np.empty(n, dtype=np.int64)
    fresh, stale, evaluations, generation = 0, 0, 0, 0
    while not stop() and (max_generations is None or generation < max_generations):
        # Exact values matter only for those that may become elite.
        cap = int(fitness[:fresh].max() * 1.02) if fresh else 2 * incumbent
        before = incumbent
        # Chunks of about 50 ms, so that Ctrl-C and the time limit are honoured on large graphs too.
        chunk = max(1, min(size, 20_000 // max(n, 1)))
        for first in range(fresh, size, chunk):
            last = min(size, first + chunk)
            value = _evaluate_keys(
                g, degrees, keys, first, last, k, low, max(incumbent, low), cap, fitness, best_order
            )
            evaluations += last - first
            if value < incumbent:
                incumbent = int(value)
                improved(incumbent, best_order.copy())
            if stop():
                return evaluations
        generation += 1
        stale = 0 if incumbent < before else stale + 1
        rank = np.argsort(fitness, kind="stable")
        keys, fitness = keys[rank], fitness[rank]
        if stale >= params.restart_after:
            keys[1:] = rng.random((size - 1, n))
            # Half of the renewal perturbs the best, the other half explores.
            half = size // 2
            noise = rng.random((half - 1, 1)) * 0.2
            keys[1:half] = keys[0] + noise * (keys[1:half] - 0.5)
            fresh, stale = 1, 0
            continue
        keys = _next_generation(keys, elite, mutants, params.bias, rng)
        fresh = elite
    return evaluations


def _next_generation(
    keys: npt.NDArray[np.float64], elite: int, mutants: int, bias: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Elite as is, biased crossover of an elite and any other parent, fresh mutants; keys sorted by rank."""
    size, n = keys.shape
    children = size - elite - mutants
    first = keys[rng.integers(0, elite, children)]
    second = keys[rng.integers(elite, size, children)]
    take = rng.random((children, n)) < bias
    return np.concatenate([keys[:elite], np.where(take, first, second), rng.random((mutants, n))])
