"""The lines below the table of stages: bottleneck, bound, gap, measurements and the time spent.

Every function takes a document, manifest or PLAN.json, or a part of one; fields that it lacks are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx_pipeline import fleet_words
from onnx_pipeline.arrangement import why, with_replicas
from onnx_pipeline.cli import replica_tables
from onnx_pipeline.cli.choice import choice
from onnx_pipeline.cli.phases import phase_name
from onnx_pipeline.figures import format_bytes, format_count, format_percent, format_rate, format_seconds

Document = Mapping[str, Any]
Line = tuple[str, str]
#: How costs of a kind are called; other kinds are installed cost models, by their names.
_KINDS = {"profile": "profiled", "analytic": "computed", "file": "given"}
#: Timings of stages that scatter by a larger share say little.
NOISY = 0.1


def verdict(document: Document) -> list[Line]:
    """Return bottleneck, speed-up, bound, gap and the time spent, each with its label."""
    certificate = document["certificate"]
    several = with_replicas(document)
    label = "period" if several else "bottleneck"
    lines = [(label, _bottleneck(certificate["bottleneck_seconds"]))]
    speedup = _speedup(certificate)
    if speedup:
        lines.append(("speed-up", speedup))
    if "latency_seconds" in certificate:
        lines.append(("latency", f"{format_seconds(certificate['latency_seconds'])} of one request alone"))
    if several:
        lines += [("devices", replica_tables.used(document)), ("why", why(document))]
    elif "replicas" in certificate:
        devices = len(document["target"].get("fleet", {}).get("devices", ())) or document["target"]["stages"]
        lines.append(("replicas", _replicas(certificate, devices)))
    if fleet_words.on_fleet(document):
        lines += fleet_words.lines(document)
    if document.get("measurement"):
        lines.append(("measured", measured(document["measurement"], document["stages"])))
        chosen = choice(certificate, document["measurement"])
        lines += [] if chosen is None else [("choice", chosen)]
    lines += [("lower bound", bound(certificate)), ("gap", gap(certificate))]
    lines.append(("costs", costs(str(certificate.get("costs", "file")), _origin(document))))
    if "sensitivity" in document:
        lines.append(("sensitivity", _sensitivity(document["sensitivity"])))
    phases = document.get("phases")
    if phases:
        lines.append(("time", spent(phases)))
    return lines


def _bottleneck(seconds: float) -> str:
    return f"{format_seconds(seconds)}, {format_rate(seconds)}" if seconds else "0 s: nothing takes time"


def _speedup(certificate: Document) -> str:
    """Compare with one device; where that has no finite cost, the model does not fit it."""
    if "one_device_seconds" not in certificate or not certificate["bottleneck_seconds"]:
        return ""
    whole = certificate["one_device_seconds"]
    if whole is None:
        return "the model does not fit one device"
    return f"{whole / certificate['bottleneck_seconds']:.2f} x over one device ({format_seconds(whole)})"


def _replicas(certificate: Document, devices: int) -> str:
    """Say what a replica of the whole model on each of the devices would reach, and which is faster."""
    found = certificate["replicas"]
    size = format_bytes(found["memory_bytes"])
    if found["rate_per_second"] is None or found["latency_seconds"] is None:
        return f"none: the whole model needs {size} on one device"
    reach = f"{format_rate(1 / found['rate_per_second'])} at {format_seconds(found['latency_seconds'])}"
    streamed = "" if found["fits"] else ", streaming what exceeds the memory"
    able = found.get("devices", devices)
    each = format_count(able, "device") + " that can run it" * (able < devices)
    each = f"each of {each}" if able > 1 else each
    text = f"the whole model on {each}: {reach}, {size} each{streamed}"
    if devices == 1 or not certificate["bottleneck_seconds"]:
        return text
    times = 1 / (certificate["bottleneck_seconds"] * found["rate_per_second"])
    return f"{text}; the pipeline is {times:.2f} x as fast"


def bound(certificate: Document) -> str:
    """Say what no partition can beat, and which method with which solver proved it."""
    best = max(certificate["bounds"], key=lambda bound: bound["seconds"], default=None)
    by = "" if best is None else f" by the {best['method']} bound"
    if best is not None and best.get("solver"):
        by += f" ({best['solver']})"
    return f"{format_seconds(certificate['lower_bound_seconds'])}{by}"


def gap(certificate: Document) -> str:
    """Say what is proved, and about which costs."""
    which = f"in the {_called(str(certificate.get('costs', 'file')))} costs"
    if (certificate.get("problem") or {}).get("replicas"):
        return replica_tables.gap(certificate, which)
    if (certificate.get("problem") or {}).get("order", "identical") != "identical":
        return fleet_words.gap(certificate, which)
    if certificate["status"] == "optimal":
        return f"{format_percent(certificate['gap'])}: proved optimal {which}"
    return f"{format_percent(certificate['gap'])}: no partition is better by more than this {which}"


def _called(text: str) -> str:
    """Return ``profile, corrected by 2 measurements of the stages`` as an adjective: ``corrected``."""
    kind, _, corrected = text.partition(", ")
    return "corrected" if corrected else _KINDS.get(kind, kind)


def _origin(document: Document) -> Document:
    """Return what a manifest or a plan says about its costs."""
    origin = document.get("cost_model") or document["graph"].get("meta", {})
    return origin if isinstance(origin, Mapping) else {}


def costs(text: str, origin: Document) -> str:
    """Say where the costs come from, and for which values of symbolic dimensions they hold.

    Parameters
    ----------
    text : str
        The certificate's or cost graph's name for them: the cost model, then what corrected it.
    origin : mapping
        What is known about them: ``provider``, ``file``, ``dims``, ``kinds`` of devices.
    """
    kind, _, corrected = text.partition(", ")
    kinds = origin.get("kinds")
    source = fleet_words.costs(kinds) if isinstance(kinds, Mapping) and kinds else _source(kind, origin)
    parts = [source, *([corrected] if corrected else [])]
    without = origin.get("nodes_without_time")
    if without and isinstance(without, int):
        parts.append(f"{format_count(without, 'node')} without a time computed")
    dims = origin.get("dims")
    if dims and isinstance(dims, Mapping):
        parts.append(f"for {', '.join(f'{name}={value}' for name, value in dims.items())}")
    return ", ".join(parts)


def _source(kind: str, origin: Document) -> str:
    if kind == "profile":
        return f"profiled on {origin['provider']}" if origin.get("provider") else "profiled"
    if kind == "analytic":
        return "computed from shapes"
    if kind == "file":
        return f"from {origin['file']}" if isinstance(origin.get("file"), str) else "from a file"
    return f"by the cost model {kind}"


def measured(summary: Document, stages: Sequence[Document]) -> str:
    """Say what the slowest stage takes here, how far off its prediction was, and whether to believe it."""
    stage = max(stages, key=lambda stage: stage["measured"]["seconds"] / stage.get("replicas", 1))
    slowest, replicas = stage["measured"], stage.get("replicas", 1)
    each = f" on each of {replicas} devices" if replicas > 1 else ""
    text = f"slowest stage {format_seconds(slowest['seconds'])}{each} (transfers excluded)"
    if slowest["seconds"]:
        text += f"; the profile predicted {_off(slowest['predicted_seconds'] / slowest['seconds'] - 1)}"
    widest = max(float(stage["measured"]["spread"]) for stage in stages) / 2
    scatter = float(summary.get("scatter", widest))
    if summary.get("outcome") == "noisy":  # said already, where the choice is explained
        return f"{text}; repeat on a quiet machine"
    if scatter > NOISY:
        return f"{text}; timings scatter by {100 * scatter:.0f} %: repeat on a quiet machine"
    return f"{text}; {format_count(summary['rounds'], 'round')}"


def _off(error: float) -> str:
    """Return a relative error in words: ``44 % less``, ``the same`` within a percent."""
    percent = round(100 * abs(error))
    return f"{percent} % {'more' if error > 0 else 'less'}" if percent else "the same"


def _sensitivity(found: Document) -> str:
    times, regret, wins = found["bottleneck_seconds"], found["regret"], found["other_partition_wins"]
    text = (
        f"costs off by up to {100 * found['perturb']:g} %: bottleneck {format_seconds(times['p10'])} to "
        f"{format_seconds(times['p90'])} (p10 to p90)"
    )
    samples = format_count(found["samples"], "sample")
    if not wins:
        return f"{text}; no other partition wins by more than 0.5 % in {samples}"
    often, by = f"{100 * wins:.0f} % of {samples}", format_percent(regret["p90"])
    return f"{text}; another partition wins by more than 0.5 % in {often}, by {by} (p90)"


def spent(phases: Mapping[str, float]) -> str:
    """Return the whole time and that of every phase (seconds by name)."""
    parts = ", ".join(f"{phase_name(key)} {format_seconds(seconds)}" for key, seconds in phases.items())
    return f"{format_seconds(sum(phases.values()))} ({parts})"
