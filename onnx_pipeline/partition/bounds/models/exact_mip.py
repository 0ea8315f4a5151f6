"""The paper's exact MIP through MathOpt: a floating-point solver's dual bound, less its tolerance.

References
----------
Archer et al. 2024, section 5 and appendix D (exact MIP).
"""

from __future__ import annotations

from onnx_pipeline.partition.bounds.models.blocks import scaled
from onnx_pipeline.partition.bounds.models.exact import exact_model
from onnx_pipeline.partition.bounds.solve import HIGHS, RESOLUTION, solve
from onnx_pipeline.partition.bounds.windows import Windows, reach_by_sets, windows
from onnx_pipeline.partition.instance.instance import Instance


def exact_mip(
    inst: Instance,
    k: int,
    lower: int,
    upper: int,
    time_limit: float = 10.0,
    threads: int = 1,
    seed: int = 0,
    solver: str = HIGHS,
    *,
    allowed: Windows | None = None,
) -> int:
    """Return a lower bound in nanoseconds.

    Parameters
    ----------
    inst : Instance
    k : int
        Number of stages.
    lower : int
        A valid lower bound in nanoseconds; the answer takes it as given.
    upper : int
        A known bottleneck in nanoseconds.
    time_limit : float
        Seconds; nothing else stops the solver.
    threads, seed : int
        For the solver, where MathOpt can pass them on.
    solver : {"highs", "scip", "cp-sat"}
    allowed : Windows, optional
        Stages that each node can be in; default: the stage windows at ``upper``.
    """
    costs = scaled(inst, RESOLUTION)
    if allowed is None:
        allowed = windows(inst, reach_by_sets(inst), k, upper)
    chain = exact_model(inst, k, costs, allowed, lower, upper)
    return costs.bound(solve(chain.model, solver, time_limit, threads, seed).bound)
