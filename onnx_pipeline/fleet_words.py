"""What tables say of devices that differ: which device has which stage, and how its kinds share the work.

Every function takes a document, manifest or PLAN.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnx_pipeline.figures import format_bytes, format_count, format_percent, format_seconds

Document = Mapping[str, Any]
#: A device's number, its name, its stages and its load in seconds.
Load = tuple[int, str, list[int], float]
#: Without the others, devices of a kind are said to be slower from this on.
SLOWER = 1.05
#: Devices without work that are named; of more only the number is.
MOST_NAMED = 4


def on_fleet(document: Document) -> bool:
    """Whether a document is about devices that differ."""
    return "fleet" in document.get("target", {})


def device_name(document: Document, device: int) -> str:
    """Return a device's kind and its place in the fleet: ``gpu 0``."""
    fleet = document["target"]["fleet"]
    return f"{fleet['kinds'][fleet['devices'][device]]['name']} {device}"


def names(document: Document) -> list[str]:
    """Return the device of every stage."""
    return [device_name(document, stage["device"]) for stage in document["stages"]]


def stage_columns(document: Document) -> list[tuple[str, list[str]]]:
    """Return every column with a cell per stage but for the bar of its load."""
    stages: Sequence[Document] = document["stages"]
    costs = [stage["cost"] for stage in stages]
    parts = [
        ("work", "work"),
        ("in", "input"),
        ("out", "output"),
        ("overflow", "overflow"),
        ("cost", "total"),
    ]
    if not any(cost["overflow_seconds"] for cost in costs):
        del parts[3]
    return [
        ("stage", [str(stage["index"]) for stage in stages]),
        ("device", names(document)),
        ("nodes", [str(stage["nodes"]) for stage in stages]),
        ("params", [format_bytes(stage["parameter_bytes"]) for stage in stages]),
        *((label, [format_seconds(cost[f"{key}_seconds"]) for cost in costs]) for label, key in parts),
    ]


def stage_loads(document: Document) -> list[float]:
    """Return what every stage adds to the load of its device."""
    return [stage["cost"]["total_seconds"] for stage in document["stages"]]


def loads(document: Document) -> list[Load]:
    """Return every device that has stages, with their numbers and its load."""
    found: dict[int, list[Document]] = {}
    for stage in document["stages"]:
        found.setdefault(stage["device"], []).append(stage)
    return [
        (
            device,
            device_name(document, device),
            [stage["index"] for stage in stages],
            sum(stage["cost"]["total_seconds"] for stage in stages),
        )
        for device, stages in sorted(found.items())
    ]


def shared(document: Document) -> bool:
    """Whether some device has several stages."""
    return any(len(stages) > 1 for _, _, stages, _ in loads(document))


def slowest(document: Document) -> tuple[float, list[bool]]:
    """Return the largest load of a device, and which stages are on such devices."""
    found = loads(document)
    most = max((load for *_, load in found), default=0.0)
    full = {device for device, _, _, load in found if load >= most * (1 - 1e-12)}
    return most, [stage["device"] in full for stage in document["stages"]]


def runs(numbers: Sequence[int]) -> str:
    """Return numbers with runs joined: ``0, 2-5``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def lines(document: Document) -> Iterator[tuple[str, str]]:
    """Yield what the verdict says of the devices: who has nothing to do, and why the work is so divided."""
    yield "devices", used(document)
    text = why(document)
    if text:
        yield "why", text


def used(document: Document) -> str:
    """Say how many of the devices have something to do, and which have not."""
    fleet = document["target"]["fleet"]
    taken, there = {stage["device"] for stage in document["stages"]}, len(fleet["devices"])
    text = f"{len(taken)} of {there} used"
    empty = [device for device in range(there) if device not in taken]
    if not empty:
        return text
    if len(empty) <= MOST_NAMED:
        idle = _and([device_name(document, device) for device in empty])
    else:
        idle = _and(
            [
                f"{kind['devices'] - kind['used']} of {kind['devices']} {kind['name']}"
                for kind in document["certificate"].get("kinds", ())
                if kind["used"] < kind["devices"]
            ]
        )
    found = "would shorten" if document["certificate"]["status"] == "optimal" else "was found to shorten"
    return f"{text}; nothing on {idle} {found} the bottleneck"


def gap(certificate: Document, which: str) -> str:
    """Say what is proved, and about which costs."""
    problem, size = certificate["problem"], format_percent(certificate["gap"])
    share = problem["stages_per_device"]
    order = {"fixed": " in this order", "any": " in any order" if share == 1 else ""}[problem["order"]]
    where = f"stages on these {format_count(problem['devices'], 'device')}{order}"
    if share != 1:
        where += ", any number on each" if share is None else f", at most {share} on each"
    if certificate["status"] == "optimal":
        return f"{size}: proved optimal among all {where}, {which}"
    return f"{size}: no {where} are better by more than this {which}"


def why(document: Document) -> str:
    """Say in a sentence how the kinds share the work, and what some of them could not do alone."""
    certificate = document["certificate"]
    kinds, bottleneck = certificate.get("kinds", ()), certificate["bottleneck_seconds"]
    present = [kind for kind in kinds if kind["devices"]]
    if len(present) < 2 or not bottleneck:
        return ""
    busy = max(present, key=lambda kind: kind["work_share"] / max(1, kind["used"]))
    verb = "takes" if busy["used"] == 1 else "take"
    count = f"{busy['used']} " if busy["devices"] > 1 else ""
    parts = [f"{count}{busy['name']} {verb} {format_percent(busy['work_share'])} of the work"]
    for kind in present:
        name = kind["name"] if kind["devices"] == 1 else f"{kind['devices']} {kind['name']}"
        if kind["alone_seconds"] is None:
            parts.append(f"{name} alone cannot run the model")
        elif kind["alone_seconds"] >= SLOWER * bottleneck:
            times = kind["alone_seconds"] / bottleneck
            parts.append(f"{name} alone would need at least {times:.2g} times as long")
    return "; ".join(parts)


def costs(origins: Mapping[str, Any]) -> str:
    """Say where the times of every kind are from; kinds with the same origin together."""
    by_origin: dict[str, list[str]] = {}
    for name, origin in origins.items():
        by_origin.setdefault(str(origin), []).append(name)
    return "; ".join(f"{_and(kinds)}: {origin}" for origin, kinds in by_origin.items())


def _and(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def load_columns(document: Document) -> list[tuple[str, list[str]]]:
    """Return the columns of a table of devices: which, their stages, their load."""
    found = loads(document)
    return [
        ("device", [name for _, name, _, _ in found]),
        ("stages", [runs(stages) for _, _, stages, _ in found]),
        ("load", [format_seconds(load) for *_, load in found]),
    ]


def headline(document: Document) -> str:
    """Return how many stages there are, and on which devices."""
    target = document["target"]
    stages = format_count(len(document["stages"]), "stage")
    share = target["fleet"]["stages_per_device"]
    most = "any number on a device" if share is None else f"at most {share} on a device"
    return f"{stages} on {target['device']}" + ("" if share == 1 else f", {most}")
