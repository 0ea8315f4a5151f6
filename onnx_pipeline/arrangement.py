"""How to use N devices: whole replicas, stages or a mix, and in one sentence why this plan and not another.

Everything is taken from a document, manifest or PLAN.json, of a plan with replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from onnx_pipeline.figures import format_bytes, format_count, format_rate

Document = Mapping[str, Any]
#: More stages than a line has room for.
MOST_COUNTS = 6
#: A rate that is higher by less than this share is called the same.
SAME = 0.005


class Way(NamedTuple):
    """One way to use the devices; without a period it is not possible.

    Attributes
    ----------
    kind, what : str
        ``"mix"`` and ``"3 stages on 2 + 4 + 2 devices"``.
    period, latency : float or None
        In seconds.
    memory_bytes : int or None
        What the fullest device holds.
    """

    kind: str
    what: str
    period: float | None = None
    latency: float | None = None
    memory_bytes: int | None = None


def with_replicas(document: Document) -> bool:
    """Whether a document is of a plan whose stages may have replicas."""
    return bool((document["certificate"].get("problem") or {}).get("replicas"))


def lacking(target: Document, certificate: Document) -> Iterator[str]:
    """Yield what a plan with replicas must say and does not."""
    if not (certificate.get("problem") or {}).get("replicas"):
        return
    needed = (target, "devices"), (certificate, "latency_seconds"), (certificate, "replicas")
    for part, key in needed:
        if key not in part:
            yield f"a plan with replicas lacks its {key!r}"


def ways(document: Document) -> tuple[Way, Way, Way]:
    """Return what whole replicas, equal replicas of stages and this plan come to, in this order."""
    certificate, devices = document["certificate"], document["target"]["devices"]
    whole, staged = certificate["replicas"], certificate.get("staged")
    rate = None if _pinned(document) else whole["rate_per_second"]
    first = Way(
        "whole replicas",
        f"{devices} of the whole model",
        1 / rate if rate else None,
        whole["latency_seconds"] if rate else None,
        whole["memory_bytes"],
    )
    second = Way("stages", "none found that fit")
    if staged is not None:
        second = Way(
            "stages",
            _alike(staged["stages"], staged["replicas"]),
            staged["period_seconds"],
            staged["latency_seconds"],
            staged["memory_bytes"],
        )
    held = max((_held(stage) for stage in document["stages"]), default=0)
    period, latency = certificate["bottleneck_seconds"], certificate["latency_seconds"]
    return first, second, Way("mix", _mixed(document), period, latency, held)


def _held(stage: Document) -> int:
    return int(stage["parameter_bytes"]) + int(stage.get("peak_activation_bytes", 0))


def _pinned(document: Document) -> bool:
    pins = (document.get("constraints") or {}).get("pins", {})
    return any(stage > 0 for stage in pins.values())


def _alike(stages: int, replicas: int) -> str:
    one = format_count(stages, "stage")
    return f"{one} on a device each" if replicas == 1 else f"{format_count(replicas, 'replica')} of {one}"


def counts(document: Document) -> list[int]:
    """Return the devices of every stage."""
    return [stage.get("replicas", 1) for stage in document["stages"]]


def periods(document: Document) -> list[float]:
    """Return the seconds between two requests that every stage can take with its devices."""
    costs = [stage["cost"]["total_seconds"] for stage in document["stages"]]
    return [cost / count for cost, count in zip(costs, counts(document), strict=True)]


def shared_costs(document: Document) -> list[dict[str, float]]:
    """Return the cost of every stage by component, divided by its devices."""
    pairs = zip(document["stages"], counts(document), strict=True)
    return [{key: seconds / count for key, seconds in stage["cost"].items()} for stage, count in pairs]


def _mixed(document: Document, last: str = " + ", between: str = " + ") -> str:
    """Return the stages and their devices."""
    found = counts(document)
    if len(found) == 1:
        return f"{format_count(found[0], 'replica')} of the whole model"
    stages = format_count(len(found), "stage")
    if len(set(found)) == 1:
        each = "a device" if found[0] == 1 else format_count(found[0], "device")
        return f"{stages} on {each} each"
    if len(found) > MOST_COUNTS:
        return f"{stages} on {min(found)} to {max(found)} devices each"
    return f"{stages} on {between.join(map(str, found[:-1]))}{last}{found[-1]} devices"


def why(document: Document) -> str:
    """Say in one sentence why the devices are used like this and not for replicas of the whole model."""
    whole, staged, plan = ways(document)
    if len(document["stages"]) == 1:
        return _whole(document, whole)
    this = f"{_mixed(document, ' and ', ', ')} serve {_rate(plan)}{_compared(staged, plan)}"
    if _pinned(document):
        return f"The pins ask for more than one stage; {this}."
    room = format_bytes(document["target"]["memory_bytes"] or float("inf"))
    if whole.period is None:
        size = format_bytes(whole.memory_bytes or 0)
        return f"A replica of the whole model needs {size}, more than the {room} of a device; {this}."
    streamed = "" if document["certificate"]["replicas"]["fits"] else f", streaming what exceeds {room},"
    return f"Replicas of the whole model{streamed} would serve {_rate(whole)}; {this}."


def _whole(document: Document, whole: Way) -> str:
    """Say why whole replicas are best, as far as that is proved."""
    optimal = document["certificate"]["status"] == "optimal"
    devices = document["target"]["devices"]
    if document["certificate"]["replicas"]["fits"] and optimal:
        if devices == 1:
            return "A device holds the whole model, and there is only one."
        return (
            f"A device holds the whole model, so {devices} replicas of it are optimal: no stages let "
            f"{devices} devices do more than {devices} times the work of one, or answer a request sooner."
        )
    streamed = "" if document["certificate"]["replicas"]["fits"] else ", streaming what exceeds the memory"
    proved = "no arrangement is faster" if optimal else "no stages were found that serve more"
    return f"Replicas of the whole model serve {_rate(whole)}{streamed}, and {proved}."


def _compared(staged: Way, plan: Way) -> str:
    """Say how much faster a mix is than equal replicas of stages."""
    if staged.period is None:
        return ", and no equal replicas of stages were found that fit"
    if not plan.period:
        return ""
    times = staged.period / plan.period
    if times < 1 + SAME:
        return ", and nothing that was found serves more"
    return f", {times:.3g} times what {staged.what} would"


def _rate(way: Way) -> str:
    return format_rate(way.period, "") if way.period else "any rate"


def cells(way: Way) -> Sequence[str]:
    """Return kind, arrangement, rate, latency and memory of a device as tables show them."""
    from onnx_pipeline.figures import format_seconds

    memory = "" if way.memory_bytes is None else format_bytes(way.memory_bytes)
    if way.period is None:
        fits = "" if way.memory_bytes is None else "does not fit"
        return way.kind, way.what, fits, "", memory
    latency = "" if way.latency is None else format_seconds(way.latency)
    return way.kind, way.what, _rate(way), latency, memory
