"""The sequential test, on made-up differences with fixed seeds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from onnx_pipeline.measurement.sequential import LEVEL, _rank, interval


@pytest.mark.parametrize("rounds", [1, 4, 7, 10])
def test_ranks_are_those_of_the_signed_rank_test(rounds: int) -> None:
    """Compared with all signs written out."""
    sums = [
        sum(rank for rank, sign in enumerate(signs, 1) if sign)
        for signs in itertools.product((0, 1), repeat=rounds)
    ]
    for level in (0.001, 0.01, 0.05, 0.2):
        found = _rank(rounds, level)
        share = np.mean([total <= found for total in sums])
        assert share <= level < np.mean([total <= found + 1 for total in sums])


def test_few_rounds_decide_nothing() -> None:
    """However clear they look: five signs come up alike too often."""
    found = interval(np.full(5, 0.2), looks=9)
    assert not found.decided(0.01)
    assert found.middle == pytest.approx(0.2)
    assert not interval(np.zeros(0), looks=9).decided(0.01)


def test_clear_differences_are_decided_soon() -> None:
    """Better by 5 %, and worse, with noise of 1 %: twelve rounds are enough, with a wild one among them."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, 12)
    noise[3] = 2.0
    better, worse = interval(0.05 + noise, looks=9), interval(-0.05 + noise, looks=9)
    assert better.low > 0
    assert better.middle == pytest.approx(0.05, abs=0.01)
    assert worse.decided(0.01)
    assert worse.low <= 0


def test_a_difference_not_worth_it_is_decided() -> None:
    """Neither better nor worse by more than counts."""
    found = interval(np.random.default_rng(0).normal(0, 0.005, 24), looks=9)
    assert found.decided(0.01)
    assert found.low <= 0


def test_a_clear_loser_is_dropped_at_the_first_look() -> None:
    """Six rounds, all of them worse, are enough to give up."""
    found = interval(np.array([-0.03, -0.04, -0.05, -0.04, -0.02, -0.05]), looks=9)
    assert found.decided(0.01)
    assert found.low == -np.inf


def test_looking_often_keeps_the_level() -> None:
    """Without any difference, few series are ever called better, however often they are looked at."""
    rng = np.random.default_rng(5)
    looks = range(12, 61, 6)
    wrong = 0
    for _ in range(400):
        series = rng.standard_t(2, 60)
        wrong += any(interval(series[:rounds], len(looks)).low > 0 for rounds in looks)
    assert wrong / 400 <= LEVEL
