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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.jit import kernel
from onnx_pipeline.partition.search import slicing
from onnx_pipeline.partition.search.orders import in_degrees, kahn, keys_of
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import Stop


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
    generations : int
        The most there may be; -1 for no limit.
    """

    population: int = 64
    elite: float = 0.2
    mutants: float = 0.15
    bias: float = 0.7
    restart_after: int = 60
    generations: int = -1

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

    @property
    def elites(self) -> int:
        """Number of chromosomes that survive unchanged."""
        return max(1, int(self.population * self.elite))


DEFAULTS = BrkgaParams()


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
    task: Task,
    seeds: Sequence[IntArray],
    rng: np.random.Generator,
    stop: Stop,
    params: BrkgaParams = DEFAULTS,
) -> Iterator[tuple[int, IntArray]]:
    """Evolve priorities until ``stop()``; yield (bottleneck, order) whenever the best known falls.

    Parameters
    ----------
    task : Task
        The instance, its bound and its bottleneck at the start; counts the orders evaluated.
    seeds : sequence of int64[n]
        Topological orders for the first population.
    rng : numpy.random.Generator
    stop : Stop
        Checked between chunks of a generation.
    params : BrkgaParams
    """
    inst, low, incumbent = task.inst, task.lower, task.upper
    n, size = inst.n, params.population
    degrees = in_degrees(inst)
    keys = rng.random((size, n))
    for i, order in enumerate(seeds[:size]):
        keys[i] = keys_of(order)
    fitness = np.empty(size, dtype=np.int64)
    best_order = np.empty(n, dtype=np.int64)
    # Chunks of about 50 ms, so that Ctrl-C and the time limit are honoured on large graphs too.
    chunk = max(1, min(size, 20_000 // max(n, 1)))
    fresh, stale, generation = 0, 0, 0
    while not stop() and generation != params.generations:
        # Exact values matter only for those that may become elite.
        cap = int(fitness[:fresh].max() * 1.02) if fresh else 2 * incumbent
        before = incumbent
        for first in range(fresh, size, chunk):
            last = min(size, first + chunk)
            value = _evaluate_keys(
                inst, degrees, keys, first, last, task.k, low, max(incumbent, low), cap, fitness, best_order
            )
            task.known.evaluations += last - first
            if value < incumbent:
                incumbent = int(value)
                yield incumbent, best_order.copy()
            if stop():
                return
        generation += 1
        stale = 0 if incumbent < before else stale + 1
        rank = np.argsort(fitness, kind="stable")
        keys, fitness = keys[rank], fitness[rank]
        if stale >= params.restart_after:
            _restart(keys, rng)
            fresh, stale = 1, 0
        else:
            keys = _next_generation(keys, params, rng)
            fresh = params.elites


def _restart(keys: npt.NDArray[np.float64], rng: np.random.Generator) -> None:
    """Renew all but the best, the first: half of them perturb it, the others explore."""
    size, n = keys.shape
    keys[1:] = rng.random((size - 1, n))
    half = size // 2
    noise = rng.random((half - 1, 1)) * 0.2
    keys[1:half] = keys[0] + noise * (keys[1:half] - 0.5)


def _next_generation(
    keys: npt.NDArray[np.float64], params: BrkgaParams, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Elite as is, biased crossover of an elite and any other parent, fresh mutants; keys sorted by rank."""
    size, n = keys.shape
    mutants = int(size * params.mutants)
    children = size - params.elites - mutants
    first = keys[rng.integers(0, params.elites, children)]
    second = keys[rng.integers(params.elites, size, children)]
    take = rng.random((children, n)) < params.bias
    return np.concatenate([keys[: params.elites], np.where(take, first, second), rng.random((mutants, n))])
