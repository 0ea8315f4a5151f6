"""What is said after stages were measured."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_pipeline.cli.choice import choice

OPTIMAL = {"status": "optimal", "gap": 0.0}
ABOVE = {"status": "feasible", "gap": 0.021}


def test_stages_as_predicted() -> None:
    """Nothing was corrected, and no other partition measured."""
    assert choice(OPTIMAL, {"outcome": "confirmed", "candidates": 1}) == (
        "confirmed: every stage takes what was predicted, up to the scatter of its timings"
    )


def test_a_busy_machine_is_said() -> None:
    """Where other work had the processor."""
    text = choice(OPTIMAL, {"outcome": "noisy", "scatter": 0.04, "stalled": 0.53})
    assert text is not None
    assert "stages scatter by 4 %, other work holds them up by 53 %; best" in text


@pytest.mark.parametrize(
    ("outcome", "certificate", "corrected", "text"),
    [
        (
            "noisy",
            OPTIMAL,
            None,
            "the machine is too noisy to compare partitions: stages scatter by 29 %; best by the profile",
        ),
        (
            "confirmed",
            OPTIMAL,
            None,
            "confirmed: the fastest of 2 partitions measured",
        ),
        (
            "improved",
            ABOVE,
            None,
            "by measurement: 3.40 % faster than the best by the profile, up to 2.10 % above the optimum in "
            "the profiled costs; the fastest of 2 partitions measured",
        ),
        (
            "confirmed",
            OPTIMAL,
            ABOVE,
            "confirmed, 2 partitions measured; up to 2.10 % may be left in the corrected costs",
        ),
        (
            "improved",
            ABOVE,
            OPTIMAL,
            "by measurement: 3.40 % faster than the best by the profile, up to 2.10 % above the optimum in "
            "the profiled costs; optimal in the corrected costs, too",
        ),
        (
            "undecided",
            OPTIMAL,
            ABOVE,
            "undecided when the time for measuring was up, 2 partitions measured; up to 2.10 % may be left "
            "in the corrected costs; a larger --measure-seconds goes on",
        ),
        (
            "improved",
            OPTIMAL,
            ABOVE,
            "by measurement: 3.40 % faster than the best by the profile, as good in the profiled costs; "
            "up to 2.10 % may be left in the corrected costs; a larger --measure-seconds goes on",
        ),
        (None, OPTIMAL, None, None),
    ],
)
def test_every_outcome_has_its_words(
    outcome: str | None, certificate: Any, corrected: Any, text: str | None
) -> None:
    """Both certificates are told apart; manifests of older releases say nothing."""
    measurement: dict[str, Any] = {"candidates": 2, "scatter": 0.29, "faster": 0.034}
    if outcome is not None:
        measurement["outcome"] = outcome
    if corrected is not None:
        measurement["corrected"] = corrected
    assert choice(certificate, measurement) == text
