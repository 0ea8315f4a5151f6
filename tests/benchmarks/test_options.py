"""A sample of the campaign of random nets with every option."""

from __future__ import annotations

import numpy as np

from benchmarks.options import draw, examine, warm_up


def test_every_option_at_random_against_brute_force() -> None:
    """Bounds, statuses, feasibility and exactly k are right, and limits are kept."""
    warm_up()
    verdicts = {examine(*draw(np.random.default_rng((3, number)))) for number in range(50)}
    assert verdicts >= {"optimal, proved", "infeasible, said so"}
