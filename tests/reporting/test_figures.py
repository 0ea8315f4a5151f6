"""The numbers behind the charts."""

from __future__ import annotations

from itertools import pairwise

import pytest

from onnx_pipeline import planfile
from onnx_pipeline.reporting import figures
from tests.reporting.subjects import chain, cut

NAMES = ["a", "b", "c", "d", "e", "f"]


def test_the_parts_of_a_stage_add_up_to_its_cost() -> None:
    """Bars end where the objective says."""
    result = cut(chain(NAMES), 3, memory=800)
    document = planfile.plan_document(result)
    rows = figures.stage_rows(document["stages"])
    assert {row["part"] for row in rows} == {"in", "work", "out", "overflow"}
    for stage in document["stages"]:
        parts = [row["seconds"] for row in rows if row["stage"] == stage["index"]]
        assert sum(parts) == pytest.approx(stage["cost"]["total_seconds"], rel=1e-12)


def test_transfers_name_the_stages_between_which_bytes_go() -> None:
    """The host gives and takes; what does not go to the next stage skips."""
    rows = figures.transfer_rows(cut(chain(NAMES), 3).partition)
    found = {(row["source"], row["target"]): (row["bytes"], row["skip"]) for row in rows}
    assert found == {
        ("host", "0"): (1000, False),
        ("0", "1"): (1000, False),
        ("0", "2"): (3000, True),
        ("1", "2"): (1000, False),
        ("2", "host"): (100, False),
    }


def test_requests_follow_each_other_through_the_stages() -> None:
    """The computed timeline: no stage has two requests at once, and the last ends a bottleneck after its
    predecessor.
    """
    result = cut(chain(NAMES), 3)
    rows = figures.timeline_rows(planfile.plan_document(result)["stages"])
    assert len(rows) == 3 * figures.REQUESTS
    for stage in range(3):
        spans = sorted((row["start"], row["end"]) for row in rows if row["stage"] == stage)
        assert all(end <= start + 1e-9 for (_, end), (start, _) in pairwise(spans))
    ends = sorted(row["end"] for row in rows if row["stage"] == 2)
    assert ends[-1] - ends[-2] == pytest.approx(result.bottleneck, abs=2e-9)


def test_a_trace_is_shown_from_its_first_span() -> None:
    """Waits and whole requests are left out; times are seconds from zero."""
    span = {"ph": "X", "cat": "stage", "tid": 1, "ts": 5e6, "dur": 1e6, "args": {"request": 3}}
    wait = {"ph": "X", "cat": "wait", "tid": 1, "ts": 1e6, "dur": 1e6}
    (row,) = figures.trace_rows([wait, span, {"ph": "b", "ts": 0}])
    assert (row["stage"], row["request"], row["start"], row["end"]) == (1, 3, 0.0, 1.0)
    (row,) = figures.trace_rows([span | {"tid": 4, "args": {"request": 3, "stage": 1, "replica": 3}}])
    assert row["stage"] == 1  # each replica has a row of its own in the trace


def test_the_history_has_a_point_for_what_is_known() -> None:
    """No bottleneck before the first partition, no bound before the first proof."""
    points = [
        {"seconds": 0.1, "method": "first", "upper_seconds": 3.0, "lower_seconds": 0.0},
        {"seconds": 0.2, "method": "simple", "upper_seconds": None, "lower_seconds": 2.0},
    ]
    assert [(row["kind"], row["value"]) for row in figures.history_rows(points)] == [
        ("bottleneck", 3.0),
        ("lower bound", 2.0),
    ]


@pytest.mark.parametrize(
    ("largest", "name"),
    [(5e-10, "nanoseconds"), (2e-6, "microseconds"), (0.9, "milliseconds"), (1.0, "seconds")],
)
def test_a_unit_keeps_figures_short(largest: float, name: str) -> None:
    """The largest unit that leaves a digit before the point."""
    assert figures.scale_for(largest).name == name
