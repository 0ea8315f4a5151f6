"""Prices: bounds that hold, and limits that are checked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnx_pipeline.partition.fleets import shared_bound
from onnx_pipeline.partition.fleets.certificate import recheck
from onnx_pipeline.partition.fleets.instance import FleetInstance, build_fleet, contract_fleet
from onnx_pipeline.partition.fleets.shared_bound import price_bound
from onnx_pipeline.partition.fleets.shared_prices import KindPrices, hypergraphs, worth
from onnx_pipeline.partition.result import Bound
from tests.partition.fleets.test_shared import cases, recurring


def prices_of(inst: FleetInstance, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[int, KindPrices], int]:
    """Return the prices that the linear program finds, and their worth."""
    seen: list[dict[int, KindPrices]] = []

    def spy(inst: FleetInstance, prices: dict[int, KindPrices]) -> int:
        seen.append(prices)
        return worth(inst, prices)

    monkeypatch.setattr(shared_bound, "worth", spy)
    bound = price_bound(inst, 10.0)
    assert bound is not None
    return seen[0], bound.ticks


def test_bounds_never_exceed_the_optimum() -> None:
    """With every feature, contracted or not; and on many small nets they are the optimum."""
    tight = 0
    for i, (graph, fleet, optimum) in enumerate(cases(300, 4)):
        inst = build_fleet(graph, fleet)
        bound = price_bound(contract_fleet(inst) if i % 2 else inst, 10.0)
        if bound is not None:
            assert bound.ticks <= optimum
            assert inst.runs.any() or not inst.n
            tight += bound.ticks == optimum
    assert tight > 80


def test_prices_need_not_be_good() -> None:
    """Any weights of kinds prove something, without any prices."""
    rng = np.random.default_rng(5)
    for graph, fleet, optimum in cases(60, 5):
        inst = build_fleet(graph, fleet)
        plain = {
            kind: KindPrices(
                int(rng.integers(1, 9)),
                np.zeros_like(h.members),
                0,
                np.zeros_like(h.use_group),
                0,
                0,
                np.zeros_like(h.work),
                np.zeros_like(h.pred),
                np.zeros_like(h.pred),
            )
            for kind, h in hypergraphs(inst).items()
        }
        assert worth(inst, plain) <= optimum


def test_overheads_and_cuts_count() -> None:
    """What accelerators save has its price: stages and transfers of the device that does the rest."""
    graph, fleet = recurring(8)
    bound = price_bound(build_fleet(graph, fleet), 10.0)
    assert bound is not None
    # All but one tick of 8 * (work 1 + in 1 + out 1 + overhead 2) - 1, whose exact optimum it cannot pass.
    assert 36 <= bound.ticks <= 39
    assert bound.kind.tolist() == [1, 0] * 8
    few = price_bound(build_fleet(graph, replace(fleet, stages_per_device=2)), 10.0)
    assert few is not None
    assert few.ticks > 400


def test_the_bound_is_proved_again() -> None:
    """What a plan states is reproduced; a larger claim is not."""
    graph, fleet = recurring(4)
    bound = price_bound(contract_fleet(build_fleet(graph, fleet)), 10.0)
    assert bound is not None
    stated = Bound("prices", bound.ticks, ticks_per_second=graph.ticks_per_second)
    assert recheck(graph, fleet, stated) == bound.ticks
    assert recheck(graph, fleet, replace(stated, ticks=bound.ticks + 1)) is None


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("nets", 1 << 40, "gives too much"),
        ("nets", -1, "out of balance"),
        ("start", 1 << 40, "too many paths"),
        ("used", 1 << 40, "too many paths"),
        ("rise", 1 << 40, "exceeds its paths"),
        ("flow", 1 << 40, "out of nothing"),
        ("weight", -(1 << 40), "negative"),
        ("fine", 1 << 40, "no limit on stages"),
    ],
)
def test_limits_are_checked(field: str, change: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A price beyond its limit proves nothing, and is refused."""
    inst = build_fleet(*recurring(4))
    prices, _ = prices_of(inst, monkeypatch)
    for kind, p in prices.items():
        wrong = p._replace(**{field: getattr(p, field) + change})
        with pytest.raises(AssertionError, match=message):
            worth(inst, prices | {kind: wrong})
