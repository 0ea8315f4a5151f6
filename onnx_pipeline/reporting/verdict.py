"""The verdict of a report, and what its reader should know before relying on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnx_pipeline import fleet_words
from onnx_pipeline.arrangement import counts, periods, why, with_replicas
from onnx_pipeline.figures import format_bytes, format_count, format_percent, format_rate, format_seconds
from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.reporting.subject import Subject

Document = Mapping[str, Any]
#: A figure with its label and what it means.
Tile = tuple[str, str, str]
#: Beyond these, a measurement scatters or a prediction misses more than a reader expects.
SCATTER, MISS = 0.1, 0.1
#: A stage this close to the memory limit has no room for another batch size.
NEARLY_FULL = 0.95


def tiles(document: Document) -> list[Tile]:
    """Return bottleneck, gap, bound, speed-up, latency, source of the costs and replicas."""
    certificate = document["certificate"]
    bottleneck, whole = certificate["bottleneck_seconds"], certificate.get("one_device_seconds")
    latency = sum(stage["cost"]["total_seconds"] for stage in document["stages"])
    best = max(certificate["bounds"], key=lambda bound: bound["seconds"], default=None)
    proof = "proved optimal" if certificate["status"] == "optimal" else "no partition can be better by more"
    several = with_replicas(document)
    found = [
        ("period" if several else "bottleneck", format_seconds(bottleneck), _slowest(document)),
        ("gap", format_percent(certificate["gap"]), f"{proof} in these costs"),
        (
            "lower bound",
            format_seconds(certificate["lower_bound_seconds"]),
            "" if best is None else f"{best['method']} bound",
        ),
        ("latency of one request", format_seconds(latency), "all stages, one after the other"),
        _costs(document),
    ]
    if bottleneck:
        found.insert(1, ("throughput", format_rate(bottleneck, ""), "once the pipeline is full"))
    if whole and bottleneck:
        found.insert(
            2, ("speed-up", f"{whole / bottleneck:.2f} ×", f"over one device ({format_seconds(whole)})")
        )
        if "fleet" not in document["target"]:
            found.append(_replicas(_devices(document), whole, bottleneck))
    elif whole is None and bottleneck:
        found.append(("replicas", "none", "the whole model does not fit one device"))
    if several:
        found.append(("devices", f"{sum(counts(document))} of {_devices(document)}", why(document)))
    if "fleet" in document["target"]:
        used = len({stage["device"] for stage in document["stages"]})
        found.append(("devices", f"{used} of {_devices(document)}", fleet_words.why(document)))
    return found


def _devices(document: Document) -> int:
    """Return how many devices there are."""
    target = document["target"]
    if "fleet" in target:
        return len(target["fleet"]["devices"])
    return int(target["devices"] if with_replicas(document) else target["stages"])


def _slowest(document: Document) -> str:
    bottleneck = document["certificate"]["bottleneck_seconds"]
    times = zip(document["stages"], periods(document), strict=True)
    slowest = [str(s["index"]) for s, seconds in times if seconds >= bottleneck * (1 - 1e-9)]
    return f"stage{'s'[: len(slowest) > 1]} {', '.join(slowest)}" if slowest else ""


def _costs(document: Document) -> Tile:
    """Say where the costs come from, how they were corrected and what they hold for."""
    text = document["certificate"].get("costs") or document.get("cost_model", {}).get("kind", "file")
    kind, _, corrected = str(text).partition(", ")
    dims = _meta(document).get("dims") or {}
    known = isinstance(dims, Mapping) and dims
    held = "for " + ", ".join(f"{name}={size}" for name, size in dims.items()) if known else ""
    source = {"profile": "profiled", "analytic": "computed"}.get(kind, kind)
    return "costs", source, ", ".join(filter(None, (corrected, f"on {document['target']['device']}", held)))


def _meta(document: Document) -> Mapping[str, Any]:
    entry = document.get("cost_model") or document.get("graph", {}).get("meta") or {}
    return entry if isinstance(entry, Mapping) else {}


def _replicas(devices: int, whole: float, bottleneck: float) -> Tile:
    """Compare with the whole model on every device, weights streamed where they do not fit."""
    text = "more than this pipeline" if whole / devices < bottleneck else "less than this pipeline"
    return (f"{format_count(devices, 'replica')} of the model", format_rate(whole / devices, ""), text)


def warnings(subject: Subject) -> list[str]:
    """Return what should be known before the figures are relied on."""
    return [*subject.notes, *_doubts(subject), *_stages(subject.document), *_nodes(subject)]


def _doubts(subject: Subject) -> Iterator[str]:
    document, certificate = subject.document, subject.document["certificate"]
    for problem in differences(subject):
        yield f"{problem}: these are not the costs that were partitioned; run `onnx-pipeline verify`"
    if certificate["gap"] > 0:
        yield (
            f"not proved optimal: a partition up to {format_percent(certificate['gap'])} better may exist; "
            "more --time-limit may find it or prove that there is none"
        )
    if document["search"].get("interrupted"):
        yield "the search was interrupted"
    best = max(certificate["bounds"], key=lambda bound: bound["seconds"], default=None)
    if best is not None and not best.get("exact", True):
        solver = best.get("solver") or "a solver"
        yield f"the {best['method']} bound is the claim of {solver}, not proved in integers"
    meta = _meta(document)
    kind = meta.get("kind", meta.get("cost_model"))
    if kind == "analytic":
        yield "costs are computed from shapes and a device's data sheet, not measured"
    dims = meta.get("dims")
    ones = [name for name, size in dims.items() if size == 1] if isinstance(dims, Mapping) else []
    if ones:
        given = ", ".join(f"{name}=1" for name in ones)
        yield f"costs are for {given}; if that is not so, give sizes with --dim"
    estimated = meta.get("estimated_operators")
    if isinstance(estimated, list) and estimated:
        yield f"no cost rule for {', '.join(map(str, estimated))}: priced by the bytes moved"
    whole = certificate.get("one_device_seconds")
    devices, bottleneck = _devices(document), certificate["bottleneck_seconds"]
    rate = (certificate.get("replicas") or {}).get("rate_per_second")
    if "fleet" in document["target"]:
        if rate and rate * bottleneck > 1:
            yield "replicas of the whole model answer more requests on the devices that can run it"
    elif whole and devices > 1 and whole / devices < bottleneck:
        yield f"{devices} replicas of the whole model answer more requests on the same devices"


def _stages(document: Document) -> Iterator[str]:
    stages, target = document["stages"], document["target"]
    if len(stages) < target["stages"]:
        yield f"{len(stages)} of {target['stages']} devices are used: more stages would not be faster"
    yield from _in_stages(
        "memory overflows, and what does not fit is streamed for every request,",
        [s["index"] for s in stages if s["cost"].get("overflow_seconds")],
    )
    limit = target.get("memory_bytes")
    if limit is not None:
        held = {s["index"]: held_bytes(s, target) for s in stages}
        yield from _in_stages(
            f"more than {100 * NEARLY_FULL:.0f} % of the memory is taken",
            [index for index, size in held.items() if NEARLY_FULL * limit <= size <= limit],
        )
    yield from _in_stages(
        "transfers take longer than work",
        [s["index"] for s in stages if _transfers(s["cost"]) > s["cost"]["work_seconds"]],
    )
    measured = [s for s in stages if s.get("measured")]
    scatter = max((s["measured"]["spread"] / 2 for s in measured), default=0.0)
    if scatter > SCATTER:
        yield f"stage timings scatter by up to ±{100 * scatter:.0f} %: measure again on a quiet machine"
    off = [
        s
        for s in measured
        if abs(s["measured"]["predicted_seconds"] / (s["measured"]["seconds"] or 1) - 1) > MISS
    ]
    if off:
        yield f"{format_count(len(off), 'stage')} measured more than {100 * MISS:.0f} % off the prediction"


def held_bytes(stage: Document, target: Document) -> int:
    """Return what counts against the memory limit in a stage."""
    return int(stage["parameter_bytes"]) + (
        int(stage.get("peak_activation_bytes", 0)) if target.get("activations") else 0
    )


def _transfers(cost: Document) -> float:
    return float(cost["input_seconds"]) + float(cost["output_seconds"])


def _in_stages(what: str, indices: Sequence[int]) -> Iterator[str]:
    """Yield what happens in some stages, where there are any."""
    if indices:
        yield f"{what} in stage{'s'[: len(indices) > 1]} {', '.join(map(str, indices))}"


def _nodes(subject: Subject) -> Iterator[str]:
    if subject.partition is None:
        return
    graph = subject.partition.graph
    if not graph.num_nodes:
        return
    heaviest = int(graph.work.argmax())
    bottleneck = max(cost.total for cost in subject.partition.costs)
    alone = not with_replicas(subject.document)  # replicas divide what a node takes
    if alone and graph.num_nodes > 1 and bottleneck and graph.work[heaviest] >= 0.9 * bottleneck:
        yield (
            f"node {graph.node_names[heaviest]!r} alone is "
            f"{100 * graph.work[heaviest] / bottleneck:.0f} % of the bottleneck: more stages cannot help"
        )
    free = sum(
        1 for size, end in zip(graph.net_bytes, graph.net_producer, strict=True) if size == 0 and end != HOST
    )
    if free:
        yield f"{free} of {graph.num_nets} tensors have no known size: they cross borders for free"
    unpriced = int((graph.work == 0).sum())
    if 2 * unpriced > graph.num_nodes:
        yield f"{unpriced} of {graph.num_nodes} nodes cost nothing: does the profile cover the model?"


def differences(subject: Subject) -> Iterator[str]:
    """Yield the stages whose figures the objective does not reproduce."""
    if subject.partition is None:
        return
    tick, costs = subject.partition.graph.ticks_per_second, subject.partition.costs
    for stage in subject.document["stages"]:
        own, said = costs[stage["index"]], stage["cost"]["total_seconds"]
        held, named = own.parameter_bytes, stage["parameter_bytes"]
        if round(said * tick) != own.total:
            real = format_seconds(own.total / tick)
            yield f"stage {stage['index']} costs {real}, not {format_seconds(said)}"
        elif held != named:
            real = format_bytes(held)
            yield f"stage {stage['index']} holds {real} of parameters, not {format_bytes(named)}"
