"""Speed of the order kernels against the plain O(n^2 k) dynamic program, in one run.

    python -m benchmarks.kernels

Prints medians in microseconds and, as the figure to compare between machines, their ratio to the plain
program on the same graph and order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numba import njit

from benchmarks.generators import layered
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.search import slicing, tapes
from onnx_pipeline.partition.search.orders import in_degrees, kahn, keys_of


@njit(cache=True)
def plain(tape, k):
    """SliceGraph as in the paper: all segments, then k rounds."""
    n = tape.work.shape[0]
    huge = np.int64(1) << 62
    best = np.full((k + 1, n + 1), huge)
    best[0, 0] = 0
    for i in range(n):
        inner, out, held = np.int64(tape.alpha), np.int64(0), np.int64(0)
        for j in range(i, n):
            inner, out, held = tapes.extend(tape, i, j, inner, out, held)
            cost = inner + out + tapes.overflow(tape, held)
            for b in range(k):
                best[b + 1, j + 1] = min(best[b + 1, j + 1], max(best[b, i], cost))
    return best[:, n].min()


def median(run: Callable[[], object], seconds: float = 0.5) -> float:
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e6


@njit
def repeat_kahn(g, degrees, keys, times):
    for _ in range(times):
        order = kahn(g, degrees, keys)
    return order


@njit
def repeat_feasible(tape, k, limit, ends, times):
    for _ in range(times):
        found = slicing.feasible(tape, k, limit, ends)
    return found


@njit
def repeat_exact(g, order, k, low, high, ends, times):
    for _ in range(times):
        found = slicing.evaluate(g, order, k, low, high, 1 << 60, ends)
    return found


def main() -> None:
    header = ("n", "k", "Kahn", "feasibility", "exact", "plain DP", "plain/feasibility", "plain/exact")
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for n, k in ((200, 16), (600, 16), (1000, 16), (1000, 64), (5000, 64)):
        inst = build(layered(n, 8), Target(bandwidth=1e9))
        degrees = in_degrees(inst)
        order = kahn(inst, degrees, np.random.default_rng(0).random(n))
        keys = keys_of(order)
        tape = tapes.make_tape(inst, order)
        ends = np.zeros(k, dtype=np.int64)
        low = inst.total_work // k
        _, value = slicing.evaluate(inst, order, k, low, low + low // 50, 1 << 60, ends)
        assert value == plain(tape, k)
        times = 50 if n <= 1000 else 5
        kahn_us = median(partial(repeat_kahn, inst, degrees, keys, times)) / times
        feasible_us = median(partial(repeat_feasible, tape, k, value - 1, ends, times)) / times
        exact_us = (
            median(partial(repeat_exact, inst, order, k, low, value + value // 50, ends, times)) / times
        )
        plain_us = median(partial(plain, tape, k))
        row = (n, k, *(f"{x:.0f} us" for x in (kahn_us, feasible_us, exact_us, plain_us)))
        print(
            "| " + " | ".join(map(str, row)), f"| {plain_us / feasible_us:.0f} | {plain_us / exact_us:.1f} |"
        )


if __name__ == "__main__":
    main()
