"""Why devices are used as they are: one sentence for each case, from the figures of the document."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_pipeline.arrangement import cells, lacking, shared_costs, ways, why


def document(counts: list[int], **changes: Any) -> dict[str, Any]:
    """A plan for eight devices whose stages take 10 ms with as many devices as they have."""
    stages = [
        {"cost": {"total_seconds": 0.01 * r}, "replicas": r, "parameter_bytes": 1 << 20} for r in counts
    ]
    certificate = {
        "bottleneck_seconds": 0.01,
        "latency_seconds": 0.01 * sum(counts),
        "status": "optimal",
        "problem": {"replicas": True},
        "replicas": {
            "rate_per_second": 100.0,
            "latency_seconds": 0.08,
            "memory_bytes": 4 << 20,
            "fits": True,
        },
        "staged": {
            "stages": 4,
            "replicas": 2,
            "period_seconds": 0.02,
            "latency_seconds": 0.09,
            "memory_bytes": 1 << 20,
        },
    }
    found = {"target": {"devices": 8, "memory_bytes": 2 << 20}, "stages": stages, "certificate": certificate}
    for key, value in changes.items():
        part = certificate if key in certificate else found
        part[key] = certificate[key] | value if isinstance(value, dict) and key in certificate else value
    return found


NEVER = {"rate_per_second": None, "latency_seconds": None, "fits": False}
STREAMED = {"rate_per_second": 40.0, "latency_seconds": 0.2, "fits": False}
CASES: list[tuple[dict[str, Any], str]] = [
    (
        document([8]),
        "A device holds the whole model, so 8 replicas of it are optimal: no stages let 8 devices do more "
        "than 8 times the work of one, or answer a request sooner.",
    ),
    (
        document([8], replicas=STREAMED, status="feasible"),
        "Replicas of the whole model serve 40/s, streaming what exceeds the memory, and no stages were found "
        "that serve more.",
    ),
    (
        document([3, 1, 4], replicas=NEVER),
        "A replica of the whole model needs 4.00 MiB, more than the 2.00 MiB of a device; 3 stages on 3, 1 "
        "and 4 devices serve 100/s, 2 times what 2 replicas of 4 stages would.",
    ),
    (
        document([2, 2, 2, 2], replicas=NEVER, staged={"period_seconds": 0.01}),
        "A replica of the whole model needs 4.00 MiB, more than the 2.00 MiB of a device; 4 stages on 2 "
        "devices each serve 100/s, and nothing that was found serves more.",
    ),
    (
        document([3, 1, 4], replicas=STREAMED),
        "Replicas of the whole model, streaming what exceeds 2.00 MiB, would serve 40/s; 3 stages on 3, 1 "
        "and 4 devices serve 100/s, 2 times what 2 replicas of 4 stages would.",
    ),
    (
        document([4, 4], constraints={"pins": {"v": 1}, "together": []}),
        "The pins ask for more than one stage; 2 stages on 4 devices each serve 100/s, 2 times what 2 "
        "replicas of 4 stages would.",
    ),
    (
        document([1] * 8, replicas=NEVER, staged={"stages": 8, "replicas": 1, "period_seconds": 0.01}),
        "A replica of the whole model needs 4.00 MiB, more than the 2.00 MiB of a device; 8 stages on a "
        "device each serve 100/s, and nothing that was found serves more.",
    ),
]


@pytest.mark.parametrize(("plan", "said"), CASES)
def test_why(plan: dict[str, Any], said: str) -> None:
    """The sentence says what memory, pins and the other ways come to."""
    assert why(plan) == said


def test_three_ways() -> None:
    """With rate, latency and memory of a device each; what is impossible says so."""
    whole, stages, mix = map(cells, ways(document([3, 1, 4], replicas=NEVER)))
    assert whole == ("whole replicas", "8 of the whole model", "does not fit", "", "4.00 MiB")
    assert stages == ("stages", "2 replicas of 4 stages", "50/s", "90.0 ms", "1.00 MiB")
    assert mix == ("mix", "3 stages on 3 + 1 + 4 devices", "100/s", "80.0 ms", "1.00 MiB")
    many = document([1, 2] * 4)
    assert cells(ways(many)[2])[1] == "8 stages on 1 to 2 devices each"
    none = document([8], staged=None)
    assert cells(ways(none)[1]) == ("stages", "none found that fit", "", "", "")


def test_costs_are_shared_by_devices() -> None:
    """Every component, so that bars are as long as periods."""
    assert shared_costs(document([4, 2])) == [{"total_seconds": 0.01}, {"total_seconds": 0.01}]


def test_what_a_plan_must_say() -> None:
    """Without it nothing can be shown; plans without replicas need none of it."""
    found = document([8])
    assert list(lacking(found["target"], found["certificate"])) == []
    del found["target"]["devices"]
    assert list(lacking(found["target"], found["certificate"])) == [
        "a plan with replicas lacks its 'devices'"
    ]
    found["certificate"]["problem"] = {"replicas": False}
    assert list(lacking(found["target"], found["certificate"])) == []
