"""The sections of a report with one chart and one table each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx_pipeline.arrangement import counts, periods, shared_costs, with_replicas
from onnx_pipeline.figures import format_bytes, format_percent, format_rate, format_seconds
from onnx_pipeline.reporting import charts, figures
from onnx_pipeline.reporting.boxes import MOST_LETTERS, shortened
from onnx_pipeline.reporting.subject import Subject
from onnx_pipeline.reporting.verdict import held_bytes

Document = Mapping[str, Any]
Table = tuple[Sequence[str], Sequence[Sequence[str]]]
#: Rows of a table that stands beside its chart.
SHORT = 24
#: Seconds of a stage beyond which no timeline is computed.
SLOWEST = 1e5
NOT_MEASURED = (
    "The stages were not measured: split with --measure 1, or give the report what bench printed with --json."
)


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes
    ----------
    key, title : str
    lead : str
        What the chart shows; or why there is none.
    chart : callable, optional
        From a width in pixels to a specification.
    table : (heads, rows), optional
        The same as text.
    unfolded : bool
        Whether the table says enough more than the chart to be shown at once.
    """

    key: str
    title: str
    lead: str
    chart: Callable[[int], charts.Spec] | None = None
    table: Table | None = None
    unfolded: bool = False


def stages(document: Document) -> Section:
    """Cost of every stage by component, and the bound; with replicas each stage's share of its devices."""
    each, certificate = document["stages"], document["certificate"]
    rows, longest, several = figures.stage_rows(each), periods(document), with_replicas(document)
    used = [part for part in figures.PARTS if any(row["part"] == part for row in rows)]
    cells = {(row["stage"], row["part"]): format_seconds(row["seconds"]) for row in rows}
    table = [
        [
            str(s["index"]),
            str(s["nodes"]),
            *(cells.get((s["index"], part), "0 s") for part in used),
            format_seconds(s["cost"]["total_seconds"]),
            *((str(count), format_seconds(period)) if several else ()),
        ]
        for s, count, period in zip(each, counts(document), longest, strict=True)
    ]
    shared = [s | {"cost": cost} for s, cost in zip(each, shared_costs(document), strict=True)]
    bars, scale = figures.stage_rows(shared), figures.scale_for(max(longest, default=0.0))
    return Section(
        "stages",
        "Stages",
        _SHARED_LEAD if several else _STAGES_LEAD,
        lambda width: charts.stages(bars, scale, certificate["lower_bound_seconds"], width),
        (["stage", "nodes", *used, "total", *(("devices", "period") if several else ())], table),
    )


_STAGES_LEAD = (
    "What one inference costs each stage. The longest bar is the bottleneck; no partition of this model has "
    "all bars shorter than the dashed line."
)
_SHARED_LEAD = (
    "What one inference costs each stage, divided by its devices. The longest bar is the period; no stages "
    "and replicas on as many devices have all bars shorter than the dashed line."
)


def memory(document: Document) -> Section:
    """Parameters and activations of every stage against the limit."""
    each, target = document["stages"], document["target"]
    limit = target.get("memory_bytes")
    rows = figures.memory_rows(each)
    counted = "Parameters and the peak of live activations" if target.get("activations") else "Parameters"
    against = (
        f"{counted} count against the limit of {format_bytes(limit)}."
        if limit is not None
        else "The devices have no memory limit."
    )
    table = [
        [
            str(s["index"]),
            format_bytes(s["parameter_bytes"]),
            _bytes(s.get("peak_activation_bytes")),
            _full(s, target),
        ]
        for s in each
    ]
    return Section(
        "memory",
        "Memory",
        f"What each stage holds while it runs. {against}",
        lambda width: charts.memory(rows, limit, width),
        (["stage", "parameters", "peak of activations", "of the limit"], table),
    )


def _bytes(size: int | None) -> str:
    return "unknown" if size is None else format_bytes(size)


def _full(stage: Document, target: Document) -> str:
    limit = target.get("memory_bytes")
    if limit is None:
        return "no limit"
    return format_percent(held_bytes(stage, target) / limit)


def transfers(subject: Subject) -> Section:
    """Bytes between stages, and which skip stages."""
    title = "Transfers"
    if subject.partition is None:
        return Section("transfers", title, f"Not known without the costs: {subject.missing}")
    rows = figures.transfer_rows(subject.partition)
    used = sorted({int(s) for s in subject.partition.stage_of})
    ends = [figures.OUTSIDE, *map(str, used)]
    skips = sum(row["skip"] for row in rows)
    lead = "Bytes per inference from a stage (row) to another (column); the host gives inputs, takes outputs."
    lead += f" Framed cells skip stages: {skips}." if skips else " No tensor skips a stage."
    table = [
        [row["source"], row["target"], row["size"], "yes" if row["skip"] else "no", _names(row["tensors"])]
        for row in rows
    ]
    return Section(
        "transfers",
        title,
        lead,
        lambda width: charts.transfers(rows, ends, width),
        (["from", "to", "size", "skips stages", "tensors"], table),
        unfolded=len(table) <= SHORT,
    )


def _names(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shortened(name, MOST_LETTERS) for name in names[:most]) + more


def measured(document: Document, bench: Document | None) -> Section:
    """Predicted against measured time of every stage, as ``split`` or ``bench`` measured it."""
    title = "Predicted and measured"
    found = figures.comparison(document["stages"], bench)
    if not found:
        return Section("measured", title, NOT_MEASURED)
    rows = figures.measured_rows(found)
    lead = "What executing each stage was predicted to take, and took when the model was split; no transfers."
    if bench is not None and bench["period_seconds"]:
        period = bench["period_seconds"]
        pace = f"a request every {format_seconds(period)}, {format_rate(period, '')}"
        lead = f"As the benchmark measured it: {pace}."
    table = [
        [
            str(stage["stage"]),
            format_seconds(stage["predicted"]),
            format_seconds(stage["measured"]),
            f"±{50 * stage['spread']:.0f} %" if "spread" in stage else "unknown",
            _off(stage["predicted"], stage["measured"]),
        ]
        for stage in found
    ]
    scale = figures.scale_for(max(row["seconds"] for row in rows))
    return Section(
        "measured",
        title,
        lead,
        lambda width: charts.measured(rows, scale, width),
        (["stage", "predicted", "measured", "scatter", "prediction off by"], table),
    )


def _off(predicted: float, measured: float) -> str:
    return f"{100 * (predicted / measured - 1):+.1f} %" if measured else "unknown"


def timeline(document: Document, events: Sequence[Document] | None) -> Section:
    """Requests in the pipeline over time: of a trace, or by the stages' costs."""
    title = "Timeline"
    each = document["stages"]
    if events is not None:
        rows, lead = figures.trace_rows(events), "The last requests of the trace; a colour per request."
    elif not each or max(s["cost"]["total_seconds"] for s in each) > SLOWEST:
        return Section("timeline", title, "Nothing is simulated without stages, nor with stages this slow.")
    else:
        rows = figures.timeline_rows(each)
        lead = (
            f"The first {figures.REQUESTS} requests by the stages' costs, if all arrive at once; a colour "
            "per request. A run with --trace records a real one."
        )
    if not rows:
        return Section("timeline", title, "The trace has no spans of stages.")
    scale = figures.scale_for(max(row["end"] for row in rows))
    table = [
        [str(row["request"]), str(row["stage"]), format_seconds(row["start"]), format_seconds(row["end"])]
        for row in rows
    ]
    return Section(
        "timeline",
        title,
        lead,
        lambda width: charts.timeline(rows, scale, width),
        (["request", "stage", "from", "to"], table),
    )


def history(document: Document) -> Section:
    """How bottleneck and bound met."""
    title = "Search"
    points = document["search"].get("history", [])
    rows = figures.history_rows(points)
    if not rows:
        return Section(
            "history", title, "The history of the search was not recorded by the version that wrote this."
        )
    found = document["search"]
    lead = (
        f"The best bottleneck falls, the best lower bound rises; where they meet, the partition is optimal. "
        f"{format_seconds(found['wall_seconds'])} of search, {found['evaluations']:,} orders sliced."
    )
    scale = figures.scale_for(max(row["value"] for row in rows))
    bounds = [
        [
            bound["method"],
            format_seconds(bound["seconds"]),
            "proved" if bound.get("exact", True) else "a solver's claim",
            bound.get("solver") or "",
            format_seconds(bound["wall_seconds"]),
        ]
        for bound in document["certificate"]["bounds"]
    ]
    return Section(
        "history",
        title,
        lead,
        lambda width: charts.history(rows, scale, width),
        (["bound", "value", "certainty", "solver", "time spent"], bounds),
    )


def origin(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield what was run where: command, versions, hashes."""
    from onnx_pipeline import __version__

    document = subject.document
    yield "command that asks for the same", command(subject)
    yield "written by", f"{document['tool']['name']} {document['tool']['version']}"
    yield "report by", f"onnx-pipeline {__version__}"
    for key, value in (document.get("cost_model") or document.get("graph", {}).get("meta") or {}).items():
        if isinstance(value, str | int | float | list | dict) and value not in ("", [], {}):
            yield f"costs: {key.replace('_', ' ')}", _plain(value)
    for name, digest in subject.hashes:
        yield f"SHA-256 of {name}", digest


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(each)}" for key, each in list(value.items())[:20])
    if isinstance(value, list):
        return ", ".join(map(_plain, value[:20]))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def command(subject: Subject) -> str:
    """Return a command line that asks for the same partition."""
    import shlex

    document = subject.document
    target, verb = document["target"], "split" if subject.is_split else "plan"
    file = subject.name if subject.is_split else document["graph"].get("file", "costs.json")
    shape = ["--devices", target["devices"]] if with_replicas(document) else ["-k", target["stages"]]
    words = ["onnx-pipeline", verb, file]
    words += ["--fleet", "fleet.toml"] if "fleet" in target else [*map(str, shape), *_devices(target)]
    if subject.is_split:
        words += ["--cost-model", str(document["cost_model"]["kind"])]
        dims = document["cost_model"].get("dims") or {}
        words += [word for name, size in dims.items() for word in ("--dim", f"{name}={size}")]
    words += ["--seed", str(document["search"]["seed"])]
    return shlex.join(words)


def _devices(target: Document) -> list[str]:
    """Return the options that describe devices which are alike."""
    words = ["--device", str(target["device"])]
    words += ["--bandwidth", _quantity(target.get("bandwidth_bytes_per_second"), 1000, "B/s")]
    words += ["--memory", _quantity(target.get("memory_bytes"), 1024, "B")]
    return words + (["--memory-mode", "hard"] if target.get("memory_mode") == "hard" else [])


def _quantity(value: float | None, step: int, unit: str) -> str:
    """Return a size or rate as an option takes it: exactly, in the largest unit that leaves it whole."""
    if value is None:
        return "inf"
    prefixes = ["", "k", "M", "G", "T"] if step == 1000 else ["", "Ki", "Mi", "Gi", "Ti"]
    power = max(p for p in range(len(prefixes)) if p == 0 or value % step**p == 0)
    return f"{value / step**power:.17g}{prefixes[power]}{unit}"
