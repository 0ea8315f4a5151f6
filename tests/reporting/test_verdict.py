"""The verdict and the warnings."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from onnx_pipeline import planfile
from onnx_pipeline.reporting import verdict
from onnx_pipeline.reporting.subject import Subject
from tests.reporting.subjects import chain, cut

NAMES = ["a", "b", "c", "d", "e", "f"]


def subject(**changes: Any) -> Subject:
    """A plan in three stages, parts of its document replaced."""
    result = cut(chain(NAMES), 3)
    document = copy.deepcopy(planfile.plan_document(result))
    for key, entry in changes.items():
        document[key].update(entry)
    return Subject(document, result.partition)


def test_the_tiles_say_what_the_certificate_says() -> None:
    """Bottleneck, rate, speed-up, gap, bound, latency, costs and replicas."""
    document = subject().document
    tiles = {label: figure for label, figure, _ in verdict.tiles(document)}
    # Stage 0: 2 ms of work, 1 ms in, 1 ms + 3 ms out over 1 MB/s; stage 2: 2 + 1 + 3 + 0.1.
    assert tiles["bottleneck"] == "7.00 ms"
    assert tiles["throughput"] == "143/s"
    assert tiles["gap"] == "20.0 %"
    assert tiles["lower bound"] == "5.60 ms"
    assert tiles["latency of one request"] == "17.1 ms"
    assert tiles["speed-up"] == "1.01 ×"
    assert tiles["costs"] == "computed"
    assert tiles["3 replicas of the model"] == "423/s"


def test_no_replicas_where_the_model_does_not_fit() -> None:
    """A whole model without a cost has no rate."""
    tiles = verdict.tiles(subject(certificate={"one_device_seconds": None}).document)
    assert tiles[-1] == ("replicas", "none", "the whole model does not fit one device")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search": {"interrupted": True}}, "the search was interrupted"),
        ({"target": {"stages": 5}}, "3 of 5 devices are used"),
        ({"graph": {"meta": {"cost_model": "x", "estimated_operators": ["Foo"]}}}, "no cost rule for Foo"),
        ({}, "not proved optimal: a partition up to 20.0 % better may exist"),
        ({"graph": {"meta": {"dims": {"batch": 1, "seq": 16}}}}, "costs are for batch=1; if"),
        ({}, "costs are computed from shapes"),
        ({}, "3 replicas of the whole model answer more requests"),
        ({}, "transfers take longer than work in stages 0, 2"),
    ],
)
def test_doubts_are_said(changes: dict[str, Any], said: str) -> None:
    """Each in a sentence."""
    assert any(said in warning for warning in verdict.warnings(subject(**changes)))


def test_figures_that_are_not_those_of_the_objective_are_said() -> None:
    """A document that claims less than its costs amount to."""
    given = subject()
    assert not list(verdict.differences(given))
    given.document["stages"][1]["cost"]["total_seconds"] *= 0.5
    assert list(verdict.differences(given)) == ["stage 1 costs 4.00 ms, not 2.00 ms"]


def test_scattering_measurements_are_said() -> None:
    """Half of the spread beyond a tenth; a prediction off by more than a tenth."""
    given = subject()
    for stage in given.document["stages"]:
        stage["measured"] = {"seconds": 1.0, "spread": 0.4, "predicted_seconds": 0.8}
    warnings = verdict.warnings(given)
    assert any("scatter by up to ±20 %" in warning for warning in warnings)
    assert any("3 stages measured more than 10 % off" in warning for warning in warnings)


def test_full_and_overflowing_memory_is_said() -> None:
    """Close to the limit, and beyond it."""
    result = cut(chain(NAMES), 3, memory=1000)
    given = Subject(planfile.plan_document(result), result.partition)
    assert any(
        "streamed for every request, in stages 0, 1, 2" in warning for warning in verdict.warnings(given)
    )
    full = copy.deepcopy(given.document)
    full["target"]["memory_bytes"] = max(
        stage["parameter_bytes"] + stage["peak_activation_bytes"] for stage in full["stages"]
    )
    assert any(
        "more than 95 % of the memory is taken in stage" in w for w in verdict.warnings(Subject(full, None))
    )


def test_a_node_that_is_the_bottleneck_is_said() -> None:
    """More stages cannot help."""
    result = cut(chain(["a", "b"], skip=False, milliseconds=100), 2)
    given = Subject(planfile.plan_document(result), result.partition)
    assert any("'a' alone is 98 % of the bottleneck" in warning for warning in verdict.warnings(given))
