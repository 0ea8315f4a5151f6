"""The lines below the table: what is proved about which costs, what was measured, and what to believe."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_pipeline.cli.verdict import costs, gap, measured, spent, verdict

CERTIFICATE = {
    "bottleneck_seconds": 0.7,
    "lower_bound_seconds": 0.63,
    "gap": 0.1,
    "status": "feasible",
    "one_device_seconds": 1.4,
    "bounds": [{"method": "simple", "seconds": 0.63, "solver": None}],
}


def told(**certificate: Any) -> dict[str, str]:
    """The lines of a plan by label."""
    document = {"graph": {"name": "net"}, "target": {"stages": 4}, "stages": []}
    return dict(verdict(document | {"certificate": CERTIFICATE | certificate}))


def test_slow_pipelines_have_a_rate() -> None:
    """1.4 inferences/s is neither 1 nor 0 of them."""
    assert told()["bottleneck"] == "700 ms, 1.43 inferences/s"
    assert told(bottleneck_seconds=100.0)["bottleneck"] == "100 s, 36 inferences/h"
    assert told(bottleneck_seconds=0.0)["bottleneck"] == "0 s: nothing takes time"


def test_a_model_that_no_device_holds_has_no_speed_up() -> None:
    """A hard limit leaves no sentinel: there is nothing to be faster than."""
    assert told()["speed-up"] == "2.00 x over one device (1.40 s)"
    assert told(one_device_seconds=None)["speed-up"] == "the model does not fit one device"
    assert "speed-up" not in told(bottleneck_seconds=0.0, one_device_seconds=0.0)


def test_latency_and_replicas() -> None:
    """What one request takes, and what the whole model on each of the same devices would reach."""
    found = {"rate_per_second": 4 / 1.4, "latency_seconds": 1.4, "memory_bytes": 1 << 20, "fits": True}
    lines = told(latency_seconds=2.8, replicas=found)
    assert lines["latency"] == "2.80 s of one request alone"
    assert (
        lines["replicas"]
        == "the whole model on each of 4 devices: 2.86 inferences/s at 1.40 s, 1.00 MiB each"
    )
    streamed = told(latency_seconds=2.8, replicas=found | {"fits": False})["replicas"]
    assert streamed.endswith(", streaming what exceeds the memory")
    none = {"rate_per_second": None, "latency_seconds": None, "memory_bytes": 1 << 20, "fits": False}
    assert (
        told(latency_seconds=2.8, replicas=none)["replicas"]
        == "none: the whole model needs 1.00 MiB on one device"
    )
    assert not {"latency", "replicas"} & set(told())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("profile", "profiled"),
        ("analytic", "computed"),
        ("file", "given"),
        ("profile, corrected by 1 measurement of the stages", "corrected"),
        ("mine", "mine"),
    ],
)
def test_a_gap_names_the_costs_that_it_is_proved_in(kind: str, name: str) -> None:
    """A proof is one about certain costs."""
    better = "10.0 %: no partition is better by more than this in the"
    assert gap(CERTIFICATE | {"costs": kind}) == f"{better} {name} costs"
    proved = CERTIFICATE | {"costs": kind, "status": "optimal", "gap": 0.0}
    assert gap(proved) == f"0 %: proved optimal in the {name} costs"


def test_costs_name_their_source_and_their_dimensions() -> None:
    """Where they were measured, and for which sizes they hold."""
    dims = {"batch": 1, "seq": 128}
    text = costs("profile", {"provider": "CPUExecutionProvider", "dims": dims})
    assert text == "profiled on CPUExecutionProvider, for batch=1, seq=128"
    assert costs("analytic", {"dims": {}}) == "computed from shapes"
    assert costs("file", {"file": "times.csv"}) == "from times.csv"
    assert costs("file", {}) == "from a file"
    partial = {"file": "trt.json", "nodes_without_time": 42}
    assert costs("file", partial) == "from trt.json, 42 nodes without a time computed"
    assert costs("mine", {}) == "by the cost model mine"
    corrected = "profile, corrected by 1 measurement of the stages"
    assert costs(corrected, {}) == "profiled, corrected by 1 measurement of the stages"


def test_measurements_say_how_far_off_the_profile_was_and_whether_to_believe_them() -> None:
    """In words instead of signs; timings that scatter widely ask for another run."""
    stages: list[dict[str, Any]] = [
        {"measured": {"seconds": 0.0116, "predicted_seconds": 0.0065, "spread": 0.04}},
        {"measured": {"seconds": 0.0090, "predicted_seconds": 0.0090, "spread": 0.04}},
    ]
    assert measured({"rounds": 12}, stages) == (
        "slowest stage 11.6 ms (transfers excluded); the profile predicted 44 % less; 12 rounds"
    )
    stages[1]["measured"]["spread"] = 0.58
    assert measured({"rounds": 12}, stages) == (
        "slowest stage 11.6 ms (transfers excluded); the profile predicted 44 % less; "
        "timings scatter by 29 %: repeat on a quiet machine"
    )
    assert measured({"rounds": 12, "scatter": 0.02}, stages).endswith("44 % less; 12 rounds")
    noisy = measured({"rounds": 12, "scatter": 0.29, "outcome": "noisy"}, stages)
    assert noisy.endswith("44 % less; repeat on a quiet machine")
    stages[0]["measured"]["predicted_seconds"] = 0.0116
    assert "the profile predicted the same;" in measured({"rounds": 1}, stages)
    stages[0]["measured"]["seconds"] = 0.0
    stages[1]["measured"] = stages[0]["measured"]
    assert measured({"rounds": 1}, stages) == "slowest stage 0 s (transfers excluded); 1 round"


def test_phases_have_names_that_people_read() -> None:
    """Documents keep their keys."""
    assert spent({"lower": 0.00535, "emit": 0.1}) == "105 ms (build graph 5.35 ms, write stages 100 ms)"


def test_sensitivity_is_told_in_words() -> None:
    """Quantiles, and how often another partition would win; never by 0 %."""
    found = {
        "perturb": 0.1,
        "samples": 50,
        "bottleneck_seconds": {"p10": 0.009, "p90": 0.011},
        "regret": {"p90": 0.012},
        "other_partition_wins": 0.3,
    }
    content = {"graph": {"name": "net"}, "certificate": CERTIFICATE, "stages": []}
    text = dict(verdict(content | {"sensitivity": found}))["sensitivity"]
    assert text == (
        "costs off by up to 10 %: bottleneck 9.00 ms to 11.0 ms (p10 to p90); "
        "another partition wins by more than 0.5 % in 30 % of 50 samples, by 1.20 % (p90)"
    )
    calm = found | {"samples": 1, "other_partition_wins": 0.0, "regret": {"p90": 0.0}}
    text = dict(verdict(content | {"sensitivity": calm}))["sensitivity"]
    assert text.endswith("no other partition wins by more than 0.5 % in 1 sample")
