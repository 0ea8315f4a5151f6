"""A sample of the conformance suite; ``make conformance`` runs all of it."""

from __future__ import annotations

import re
import warnings

import pytest

from benchmarks import conformance

#: One in so many of the eligible cases, and all whose names say that they are awkward.
_AWKWARD = re.compile(r"sequence|optional|loop|scan|_if_|int4|string|label_encoder|identity|constant")


@pytest.fixture(scope="module")
def outcomes() -> list[conformance.Outcome]:
    """Run the sample once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = conformance.collect(("node", "simple", "pytorch-operator"))
    sample = [c for i, c in enumerate(cases) if i % 40 == 0]
    sample += [c for i, c in enumerate(cases) if _AWKWARD.search(c.name) and i % 4 == 0]
    return conformance.run(sample, jobs=2)


def test_every_eligible_case_is_equal(outcomes: list[conformance.Outcome]) -> None:
    """Split at k = 2 and 3, the expected outputs come out."""
    found = conformance.summary(outcomes)
    assert found["failures"] == []
    assert found["eligible"] > 60


def test_exclusions_have_reasons(outcomes: list[conformance.Outcome]) -> None:
    """Whatever is left out says why, and it is onnxruntime's reason."""
    for outcome in outcomes:
        if outcome.status == "excluded":
            assert "onnxruntime" in outcome.reason or "no expected outputs" in outcome.reason
