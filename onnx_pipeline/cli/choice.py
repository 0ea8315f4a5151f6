"""The line of a verdict that says what measuring the stages came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_pipeline.figures import format_count, format_percent

Document = Mapping[str, Any]
#: A larger gap in the corrected costs stays only where the time for measuring was up.
PROMISED = 0.02
#: Share of waiting worth mentioning.
STALLED = 0.1


def choice(certificate: Document, measurement: Document) -> str | None:
    """Return why this partition was written after its stages were measured; None where it is not known.

    Parameters
    ----------
    certificate, measurement : mapping
        Objects of the manifest.
    """
    outcome, corrected = measurement.get("outcome"), measurement.get("corrected")
    if outcome == "noisy":
        why = f"stages scatter by {100 * measurement['scatter']:.0f} %"
        if measurement.get("stalled", 0.0) >= STALLED:
            why += f", other work holds them up by {100 * measurement['stalled']:.0f} %"
        return f"the machine is too noisy to compare partitions: {why}; best by the profile"
    if outcome == "confirmed" and corrected is None:
        if measurement["candidates"] > 1:
            return f"confirmed: the fastest of {measurement['candidates']} partitions measured"
        return "confirmed: every stage takes what was predicted, up to the scatter of its timings"
    if outcome == "measured":
        return "best by the profile; the stages were measured, no other plan was tried"
    if outcome is None:
        return None
    left = f"the fastest of {measurement['candidates']} partitions measured"
    if corrected is not None:
        left = f"up to {format_percent(corrected['gap'])} may be left in the corrected costs"
        if corrected["status"] == "optimal":
            left = "optimal in the corrected costs, too"
        if corrected["gap"] > PROMISED and outcome in ("improved", "undecided"):
            left += "; a larger --measure-seconds goes on"
    tried = f"{format_count(measurement['candidates'], 'partition')} measured"
    if outcome == "improved":
        above = f"up to {format_percent(certificate['gap'])} above the optimum in the profiled costs"
        if certificate["status"] == "optimal":
            above = "as good in the profiled costs"
        faster = f"{format_percent(measurement['faster'])} faster than the best by the profile"
        return f"by measurement: {faster}, {above}; {left}"
    if outcome == "undecided":
        return f"undecided when the time for measuring was up, {tried}; {left}"
    return f"confirmed, {tried if measurement['candidates'] > 1 else 'costs corrected'}; {left}"
