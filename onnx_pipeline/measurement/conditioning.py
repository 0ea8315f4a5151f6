"""Costs corrected by all measurements of stages together: Gaussian conditioning.

A stage that takes longer than predicted says that its nodes are dearer, and a little less surely that nodes
like them are dearer elsewhere. So the relative errors of the nodes' costs are taken as normally distributed,
correlated within a kind of node, and conditioned on what stages of any number of partitions were measured to
take, each as surely as its measurement scatters. The linear systems have one row per measured stage, however
many nodes there are.

References
----------
C. E. Rasmussen, C. K. I. Williams, *Gaussian Processes for Machine Learning*, 2006, section 2.2: the
conditional distribution of a Gaussian, here for sums of its components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import stage_costs
from onnx_pipeline.graph.target import Target

FloatArray = npt.NDArray[np.float64]

#: A node's correction is believed within these factors; beyond them something else is wrong.
LEAST_FACTOR, LARGEST_FACTOR = 0.25, 4.0
#: Candidates of :func:`likely_prior`.
SCALES = (1.0, 2.0, 4.0)
MISFITS = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
#: What keeps a system solvable where one stage was measured twice without any noise.
_JITTER = 1e-12


@dataclass(frozen=True)
class Prior:
    """Relative standard deviations of the error of a node's cost, by what shares it.

    The defaults fit the stages that ``benchmarks/fidelity.py`` measured: 3.6 % are shared by the nodes of a
    stage, and 18.5 % would be a node's own if all weighed alike, 10 % with work as uneven as it is.
    ``python -m benchmarks.conditioning --prior`` derives them again.

    Attributes
    ----------
    common : float
        Of all nodes together.
    kind : float
        Of all nodes of a kind, on top.
    node : float
        Of one node, on top.
    misfit : float
        Of a stage beyond its nodes, beside the noise of its measurement: what no costs of nodes can express.
    """

    common: float = 0.02
    kind: float = 0.03
    node: float = 0.10
    misfit: float = 0.0

    def times(self, scale: float, misfit: float) -> Prior:
        """Return a prior with errors of nodes so many times as large, and this misfit."""
        return Prior(self.common * scale, self.kind * scale, self.node * scale, misfit)


#: Of computed costs, whose scale is that of another device, and which foresee no fusion.
COMPUTED = Prior(10.0, 0.3, 0.3)


@dataclass(frozen=True, eq=False)
class Observation:
    """What the stages of one partition were measured to take.

    Attributes
    ----------
    stage_of : int64[n]
    seconds : float64[k]
        Of each stage's execution.
    noise : float64[k]
        Relative standard errors of them.
    """

    stage_of: IntArray
    seconds: FloatArray
    noise: FloatArray


def execution_ticks(graph: CostGraph, stage_of: Sequence[int] | IntArray, stages: int) -> list[int]:
    """Predict how long a stage computes: its work and the changes of layout at its borders.

    The rest of a stage's cost, transfers and overheads, is the device's and happens between sessions.
    """
    costs = stage_costs(replace(graph, net_time=None), Target(), stage_of, stages)
    return [cost.work + cost.input + cost.output for cost in costs]


def condition(
    graph: CostGraph,
    observations: Sequence[Observation],
    kinds: IntArray,
    prior: Prior | None = None,
) -> CostGraph:
    """Return the graph with the work that is to be expected after these measurements.

    Parameters
    ----------
    graph : CostGraph
        With the costs as they were before any of them.
    observations : sequence of Observation
    kinds : int64[n]
        Number of every node's kind, from 0.
    prior : Prior, optional

    Returns
    -------
    CostGraph
        ``meta["corrections"]`` counts the observations, and those that the graph had been corrected by.
    """
    prior = Prior() if prior is None else prior
    work = graph.work.astype(np.float64)
    system = _system(graph, observations, kinds, prior)
    weights = np.zeros(len(system.kept))
    weights[system.kept] = np.linalg.solve(system.covariance, system.surplus)
    factors = 1.0 + _errors(work, observations, kinds, prior, weights)
    corrected = np.rint(work * np.clip(factors, LEAST_FACTOR, LARGEST_FACTOR)).astype(np.int64)
    before = graph.meta.get("corrections", 0)  # of a file, where it may be anything
    times = (before if isinstance(before, int) else 0) + len(observations)
    return replace(graph, work=corrected, meta={**graph.meta, "corrections": times})


def likely_prior(
    graph: CostGraph, observations: Sequence[Observation], kinds: IntArray, prior: Prior | None = None
) -> Prior:
    """Return a multiple of a prior, with a misfit, under which these measurements are most likely.

    Stages of several partitions that share nodes tell a misfit from errors of the nodes: what one partition's
    border costs is not there in another's. One partition tells nothing. Parameters as in :func:`condition`.
    """
    prior = Prior() if prior is None else prior
    if len(observations) < 2:
        return prior

    def surprise(tried: Prior) -> float:
        """Minus twice the logarithm of the density, up to a constant."""
        system = _system(graph, observations, kinds, tried)
        squares = float(system.surplus @ np.linalg.solve(system.covariance, system.surplus))
        return squares + float(np.linalg.slogdet(system.covariance)[1])

    return min((prior.times(scale, misfit) for scale in SCALES for misfit in MISFITS), key=surprise)


@dataclass(frozen=True, eq=False)
class _System:
    """Which of the measured stages have work, by how much these exceed it, and how that varies."""

    kept: npt.NDArray[np.bool_]
    surplus: FloatArray
    covariance: FloatArray


def _system(graph: CostGraph, observations: Sequence[Observation], kinds: IntArray, prior: Prior) -> _System:
    work = graph.work.astype(np.float64)
    surplus, measured, noise = _surplus(graph, observations)
    kept = np.concatenate([_sums(work, each) for each in observations]) > 0
    covariance = _covariance(work, observations, kinds, prior)[np.ix_(kept, kept)]
    own = (noise[kept] ** 2 + prior.misfit**2) * measured[kept] ** 2
    covariance[np.diag_indices_from(covariance)] += own + _JITTER * np.diag(covariance)
    return _System(kept, surplus[kept], covariance)


def _surplus(
    graph: CostGraph, observations: Sequence[Observation]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return by how many ticks each measured stage exceeds its prediction, its ticks, and relative noise."""
    predicted = [execution_ticks(graph, each.stage_of, len(each.seconds)) for each in observations]
    measured = np.concatenate([each.seconds for each in observations]) * graph.ticks_per_second
    noise = np.concatenate([each.noise for each in observations])
    return measured - np.concatenate(predicted), measured, noise


def _sums(values: FloatArray, seen: Observation) -> FloatArray:
    return np.bincount(seen.stage_of, weights=values, minlength=len(seen.seconds)).astype(np.float64)


def _by_kind(work: FloatArray, seen: Observation, kinds: IntArray) -> FloatArray:
    """Return the work of every stage by kind, stages x kinds."""
    stages, count = len(seen.seconds), int(kinds.max(initial=-1)) + 1
    cells = np.bincount(seen.stage_of * count + kinds, weights=work, minlength=stages * count)
    return np.asarray(cells, dtype=np.float64).reshape(stages, count)


def _covariance(
    work: FloatArray, observations: Sequence[Observation], kinds: IntArray, prior: Prior
) -> FloatArray:
    """Return the covariance of the stages' work: what they share in all, by kind, and node by node."""
    totals = np.concatenate([_sums(work, each) for each in observations])
    shared = np.concatenate([_by_kind(work, each, kinds) for each in observations])
    overlap = np.block([[_overlap(work, one, two) for two in observations] for one in observations])
    found: FloatArray = prior.common**2 * np.outer(totals, totals)
    found += prior.kind**2 * shared @ shared.T + prior.node**2 * overlap
    return found


def _overlap(work: FloatArray, one: Observation, two: Observation) -> FloatArray:
    """Return the sum of squared work of the nodes that a stage of one and a stage of the other share."""
    shape = len(one.seconds), len(two.seconds)
    cells = np.bincount(
        one.stage_of * shape[1] + two.stage_of, weights=work**2, minlength=shape[0] * shape[1]
    )
    return np.asarray(cells, dtype=np.float64).reshape(shape)


def _errors(
    work: FloatArray,
    observations: Sequence[Observation],
    kinds: IntArray,
    prior: Prior,
    weights: FloatArray,
) -> FloatArray:
    """Return the nodes' expected relative errors, from what every measured stage weighs."""
    ends = np.cumsum([len(each.seconds) for each in observations])
    own = np.zeros(len(work))
    for each, mine in zip(observations, np.split(weights, ends[:-1]), strict=True):
        own += mine[each.stage_of] * work
    by_kind = np.bincount(kinds, weights=own)
    errors: FloatArray = prior.common**2 * own.sum() + prior.kind**2 * by_kind[kinds] + prior.node**2 * own
    return errors
