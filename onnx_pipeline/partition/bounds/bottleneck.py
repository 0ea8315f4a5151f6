"""The bottleneck MIP: a partition seen as before / bottleneck stage / after.

Binary prefix variables z1 = [v before], z2 = [v before or in the bottleneck stage]. With T' = T - alpha,

    T' >= work(S) + io of S,      work(A) + io(A, rest) + work(C) + io(rest, C) <= (k - 1) T'

where A, S, C are the three blocks, and costs inside A and C are relaxed away. Tensors of the host that A
or C read or produce are paid there at least once.

The instance is scaled down to small integers with every cost rounded down, so a bound of the scaled
instance, scaled back, is a bound of the real one, and CP-SAT reasons in integers throughout.

References
----------
Archer et al. 2024, section 5 (three-superblock MIP) and appendix D.
"""

from __future__ import annotations

from ortools.sat.python import cp_model

from onnx_pipeline.graph import HOST
from onnx_pipeline.partition.instance import Instance

#: Total of all scaled costs: large enough for five digits, small enough for the solver.
RESOLUTION = 10_000_000


def bottleneck(inst: Instance, k: int, time_limit: float, upper: int, threads: int = 1, seed: int = 0) -> int:
    """Return a lower bound in nanoseconds: the solver's dual bound, scaled back.

    Parameters
    ----------
    inst : Instance
    k : int
        Number of stages.
    time_limit : float
        Seconds for the solver.
    upper : int
        A known bottleneck in nanoseconds; the solver need not look above it.
    threads, seed : int
        For the solver.
    """
    total = inst.total_work + int(inst.net_cost.sum())
    scale = max(1, -(-total // RESOLUTION))
    work, cost = inst.work // scale, inst.net_cost // scale
    model = cp_model.CpModel()
    z1 = [model.new_bool_var("") for _ in range(inst.n)]
    z2 = [model.new_bool_var("") for _ in range(inst.n)]
    slack = model.new_int_var(0, max(0, upper - inst.alpha) // scale + 1, "")
    for v in range(inst.n):
        model.add_implication(z1[v], z2[v])
    seen: set[tuple[int, int]] = set()
    heads, tails = inst.edges()
    for u, v in zip(heads.tolist(), tails.tolist(), strict=True):
        if (u, v) not in seen:
            seen.add((u, v))
            model.add_implication(z1[v], z1[u])
            model.add_implication(z2[v], z2[u])

    middle, outer = [], []
    for v in range(inst.n):
        w = int(work[v])
        middle.append(w * (z2[v] - z1[v]))
        outer.append(w * (1 + z1[v] - z2[v]))
    for t in range(inst.m):
        c, p = int(cost[t]), int(inst.net_prod[t])
        if not c:
            continue
        consumers = [int(v) for v in inst.net_cons[inst.net_ptr[t] : inst.net_ptr[t + 1]]]
        inside = [z2[v] - z1[v] for v in consumers]
        leaves_a, enters_c, enters_s, leaves_s = (model.new_bool_var("") for _ in range(4))
        if p == HOST:
            for v, here in zip(consumers, inside, strict=True):
                model.add(enters_s >= here)
                model.add_implication(z1[v], leaves_a)
                model.add(enters_c >= 1 - z2[v])
            middle.append(c * enters_s)
            outer += [c * leaves_a, c * enters_c]
            continue
        home = z2[p] - z1[p]
        for v, here in zip(consumers, inside, strict=True):
            model.add(enters_s >= here - home)
            model.add(enters_c >= z2[p] - z2[v])
            if not inst.net_pin[t]:
                model.add(leaves_s >= home - here)
                model.add(leaves_a >= z1[p] - z1[v])
        middle.append(c * enters_s)
        outer.append(c * enters_c)
        if inst.net_pin[t]:
            middle.append(c * home)
            outer.append(c * (1 - home))
        else:
            middle.append(c * leaves_s)
            outer.append(c * leaves_a)
    model.add(sum(middle) <= slack)
    model.add(sum(outer) <= (k - 1) * slack)
    model.minimize(slack)

    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(0.01, time_limit)
    solver.parameters.num_workers = threads
    solver.parameters.random_seed = seed
    # The host program, not the solver, decides what Ctrl-C means.
    solver.parameters.catch_sigint_signal = False
    status = solver.solve(model)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.UNKNOWN):
        # The objective is integer, so the bound may be rounded up; the tolerance guards against float noise.
        dual = max(0, -int(-(solver.best_objective_bound - 1e-6) // 1))
        return inst.alpha + dual * scale
    raise AssertionError(f"the bottleneck model has a solution at T = {upper} ns, yet CP-SAT says {status}")
