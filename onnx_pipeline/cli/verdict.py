"""The lines below the table of stages: bottleneck, bound, gap, measurements and the time spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx_pipeline.cli.units import format_percent, format_seconds

Document = Mapping[str, Any]


def verdict(document: Document) -> list[tuple[str, str]]:
    """Return bottleneck, speed-up, bound, gap and the time spent, each with its label."""
    certificate = document["certificate"]
    bottleneck = certificate["bottleneck_seconds"]
    rate = f", {1 / bottleneck:,.0f} inferences/s" if bottleneck else ""
    lines = [("bottleneck", f"{format_seconds(bottleneck)}{rate}")]
    whole = certificate.get("one_device_seconds")
    if whole is not None and bottleneck:
        lines.append(("speed-up", f"{whole / bottleneck:.2f} x over one device ({format_seconds(whole)})"))
    if document.get("measurement"):
        lines.append(("measured", _measurement(document["measurement"], document["stages"])))
    best = max(certificate["bounds"], key=lambda bound: bound["seconds"], default=None)
    by = "" if best is None else f" by the {best['method']} bound"
    if best is not None and best.get("solver"):
        by += f" ({best['solver']})"
    lines.append(("lower bound", f"{format_seconds(certificate['lower_bound_seconds'])}{by}"))
    meaning = (
        "proved optimal in the cost model"
        if certificate["status"] == "optimal"
        else "no partition can be better by more than this"
    )
    if "costs" in certificate:
        meaning += f" (costs: {certificate['costs']})"
    lines.append(("gap", f"{format_percent(certificate['gap'])}, {meaning}"))
    if "sensitivity" in document:
        lines.append(("sensitivity", _sensitivity(document["sensitivity"])))
    phases = document.get("phases")
    if phases:
        lines.append(("time", spent(phases)))
    return lines


def _sensitivity(found: Document) -> str:
    times, regret = found["bottleneck_seconds"], found["regret"]
    return (
        f"costs off by up to {100 * found['perturb']:g} %: bottleneck {format_seconds(times['p10'])} to "
        f"{format_seconds(times['p90'])} (p10 to p90); another partition wins by more than 0.5 % in "
        f"{100 * found['other_partition_wins']:.0f} % of {found['samples']} samples, "
        f"by {100 * regret['p90']:.1f} % (p90)"
    )


def _measurement(summary: Document, stages: Sequence[Document]) -> str:
    """Say what the slowest stage takes here and how far off its prediction was."""
    slowest = max(stages, key=lambda stage: float(stage["measured"]["seconds"]))["measured"]
    error = slowest["predicted_seconds"] / slowest["seconds"] - 1 if slowest["seconds"] else 0.0
    whole = format_seconds(summary["reference_seconds"])
    return (
        f"slowest stage {format_seconds(slowest['seconds'])} (transfers excluded), "
        f"predicted {100 * error:+.1f} %, "
        f"{summary['rounds']} rounds next to the whole model ({whole})"
    )


def spent(phases: Mapping[str, float]) -> str:
    """Return the whole time and that of every phase (seconds by name)."""
    parts = ", ".join(f"{name} {format_seconds(seconds)}" for name, seconds in phases.items())
    return f"{format_seconds(sum(phases.values()))} ({parts})"
