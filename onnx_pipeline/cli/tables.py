"""The table of stages, and those of the other results.

The table of stages is rendered from a document, manifest or PLAN.json, so it never shows a figure that
``--json`` lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from onnx_pipeline import fleet_words
from onnx_pipeline.arrangement import periods, with_replicas
from onnx_pipeline.cli import replica_tables
from onnx_pipeline.cli.terminal import harmless, make_console, print_lines, print_title, print_whole
from onnx_pipeline.cli.verdict import costs, spent, verdict
from onnx_pipeline.errors import printable
from onnx_pipeline.figures import format_bandwidth, format_bytes, format_count, format_percent, format_seconds
from onnx_pipeline.graph.target import INFEASIBLE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from onnx_pipeline.costmodel.calibrate import Calibration
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.verification.checks import VerifyReport
    from onnx_pipeline.verification.compare import OutputCheck

Document = Mapping[str, Any]
#: A column's heading and its cell for every stage.
Column = tuple[str, list[str]]
_COUNTS = (("stage", "index"), ("nodes", "nodes"))
#: Columns of a bar, and as few as it may take where that makes everything fit.
BAR_WIDTH, LEAST_BAR = 10, 4
TOP_NODES = 10
#: Between two columns.
_GUTTER = 2


def show(document: Document, stream: IO[str] | None = None, title: str | None = None) -> None:
    """Print the table of stages and the verdict of a manifest or plan document.

    Parameters
    ----------
    document : mapping
        The manifest's or PLAN.json's; ``phases`` (seconds by name) is shown where present.
    stream : text file, optional
        Where to print; stdout by default. A terminal's width and colours are respected.
    title : str, optional
        First line; derived from the document by default.
    """
    render(make_console(stream), document, title)


def render(console: Console, document: Document, title: str | None = None) -> None:
    """Print onto a rich console."""
    document = harmless(document)
    print_title(console, headline(document) if title is None else title)
    unicode = "utf" in console.encoding.lower()
    columns = stage_columns(document, unicode=unicode)
    missing = sum(map(_width, columns)) - _GUTTER - console.width
    if 0 < missing <= BAR_WIDTH - LEAST_BAR:
        columns = stage_columns(document, unicode=unicode, bar=BAR_WIDTH - missing)
    for part in _side_by_side(columns, console.width):
        print_whole(console, _table(part, bottlenecks(document), unicode=unicode))
    if fleet_words.on_fleet(document) and fleet_words.shared(document):
        _print_loads(console, document, unicode=unicode)
    if with_replicas(document):
        console.print()
        replica_tables.print_ways(console, document)
        console.print()
    print_lines(console, verdict(document))


def _print_loads(console: Console, document: Document, *, unicode: bool) -> None:
    """Print the load of every device, where some have several stages."""
    most, _ = fleet_words.slowest(document)
    shares = [load / most if most else 0.0 for *_, load in fleet_words.loads(document)]
    bars = [f"{_bar(share, BAR_WIDTH, unicode)} {100 * share:3.0f} %" for share in shares]
    columns = [*fleet_words.load_columns(document), ("of slowest", bars)]
    console.print()
    print_whole(console, _table(columns, [share >= 1 for share in shares], unicode=unicode))


def headline(document: Document) -> str:
    """Return what was split, for how many devices of what kind."""
    target = document["target"]
    used, wanted = len(document["stages"]), target.get("stages", 0)
    device = str(target["device"])
    if with_replicas(document):
        device = f"{format_count(target['devices'], 'device')} ({device})"
    stages = format_count(used, "stage") if used >= wanted else f"{used} of {format_count(wanted, 'stage')}"
    exactly = "exactly " if document.get("constraints", {}).get("exactly") else ""
    parts = [f"{exactly}{stages} on {device}"]
    if fleet_words.on_fleet(document):
        parts = [fleet_words.headline(document)]
    for key, label, form in (
        ("bandwidth_bytes_per_second", "", format_bandwidth),
        ("memory_bytes", " memory", format_bytes),
    ):
        if target.get(key) is not None:
            parts.append(f"{form(target[key])}{label}")
    if target.get("stage_overhead_seconds"):
        parts.append(f"{format_seconds(target['stage_overhead_seconds'])} overhead per stage")
    return f"{_subject(document)}: {', '.join(parts)}"


def _subject(document: Document) -> str:
    """Return the file that was split or planned; graphs are often called "main_graph"."""
    if "model" in document:
        return str(document["model"]["file"])
    graph = document["graph"]
    return Path(graph["file"]).name if "file" in graph else str(graph["name"])


def stage_columns(document: Document, *, unicode: bool = True, bar: int = BAR_WIDTH) -> list[Column]:
    """Return every column with a cell per stage; memory overflow has one where there is any."""
    if with_replicas(document):
        loads = periods(document)
        most = max(loads, default=0.0)
        return [*replica_tables.stage_columns(document), *_last(document, loads, most, "load", bar, unicode)]
    if fleet_words.on_fleet(document):
        loads, most = fleet_words.stage_loads(document), fleet_words.slowest(document)[0]
        return [*fleet_words.stage_columns(document), *_last(document, loads, most, "load", bar, unicode)]
    stages: Sequence[Document] = document["stages"]
    priced = [stage["cost"] for stage in stages]
    columns: list[Column] = [(key, [str(stage[name]) for stage in stages]) for key, name in _COUNTS]
    times = [
        (label, f"{key}_seconds") for label, key in (("work", "work"), ("in", "input"), ("out", "output"))
    ]
    if any(cost["overflow_seconds"] for cost in priced):
        times.append(("overflow", "overflow_seconds"))
    columns += [(label, [format_seconds(cost[key]) for cost in priced]) for label, key in times]
    columns.append(("params", [format_bytes(stage["parameter_bytes"]) for stage in stages]))
    if all("peak_activation_bytes" in stage for stage in stages):
        columns.append(("peak", [format_bytes(stage["peak_activation_bytes"]) for stage in stages]))
    columns.append(("total", [format_seconds(cost["total_seconds"]) for cost in priced]))
    totals = [cost["total_seconds"] for cost in priced]
    return [*columns, *_last(document, totals, max(totals, default=0.0), "of slowest", bar, unicode)]


def _last(
    document: Document, times: Sequence[float], most: float, label: str, bar: int, unicode: bool
) -> Iterator[Column]:
    """Yield what was measured, if anything was, and every stage's share of the most time."""
    stages = document["stages"]
    if all(stage.get("measured") for stage in stages):
        yield "measured", [_measured(stage["measured"], unicode) for stage in stages]
    shares = [time / most if most else 0.0 for time in times]
    yield label, [f"{_bar(share, bar, unicode)} {100 * share:3.0f} %" for share in shares]


def bottlenecks(document: Document) -> list[bool]:
    """Return which stages are the slowest: by periods where they have replicas, by devices in a fleet."""
    if fleet_words.on_fleet(document):
        return fleet_words.slowest(document)[1]
    times = periods(document)
    return [seconds == max(times) for seconds in times]


def _side_by_side(columns: Sequence[Column], width: int) -> list[list[Column]]:
    """Divide columns over as few tables as a terminal has room for; each begins with the stage."""
    first, *rest = columns
    tables, room = [[first]], width + _GUTTER - _width(first)
    for column in rest:
        if _width(column) > room and len(tables[-1]) > 1:
            tables.append([first])
            room = width + _GUTTER - _width(first)
        tables[-1].append(column)
        room -= _width(column)
    return tables


def _width(column: Column) -> int:
    """Columns of a terminal that one of a table takes, with what divides it from the next."""
    label, cells = column
    return max(map(len, (label, *cells))) + _GUTTER


def _table(columns: Sequence[Column], bold: Sequence[bool], *, unicode: bool) -> Table:
    from rich import box
    from rich.table import Table

    style = box.SIMPLE_HEAD if unicode else box.ASCII_DOUBLE_HEAD
    table = Table(box=style, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for label, _ in columns:
        table.add_column(label, justify="right", no_wrap=True)
    for row, slowest in zip(zip(*(cells for _, cells in columns), strict=True), bold, strict=True):
        table.add_row(*row, style="bold" if slowest else None)
    return table


def _measured(measured: Document, unicode: bool) -> str:
    return f"{format_seconds(measured['seconds'])} {'±' if unicode else '+-'}{50 * measured['spread']:.0f} %"


def _bar(share: float, width: int, unicode: bool) -> str:
    if not unicode:
        return ("#" * round(share * width)).ljust(width)
    eighths = round(share * width * 8)
    text = "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
    return text.ljust(width)


def show_costs(
    graph: CostGraph, phases: Mapping[str, float], stream: IO[str] | None = None, name: str | None = None
) -> None:
    """Print the totals of a cost graph, called by its own name unless given one, and its costliest nodes."""
    from rich.table import Table

    console = make_console(stream)
    total = int(graph.work.sum())
    counts = f"{format_count(graph.num_nodes, 'node')}, {format_count(graph.num_nets, 'tensor')}"
    print_title(console, f"{name or graph.name}: {counts}")
    table = Table(box=None, pad_edge=False, show_edge=False)
    for label in ("work", "share", "out", "params"):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column("node", overflow="fold")
    out, parameters = [0] * graph.num_nodes, [0] * graph.num_nodes
    for producer, size in zip(graph.net_producer.tolist(), graph.net_bytes.tolist(), strict=True):
        if producer >= 0:
            out[producer] += size
    for group, size in enumerate(graph.group_bytes.tolist()):
        for node in graph.group_members(group).tolist():
            parameters[node] += size
    for node in sorted(range(graph.num_nodes), key=lambda v: (-int(graph.work[v]), v))[:TOP_NODES]:
        table.add_row(
            format_seconds(graph.seconds(int(graph.work[node]))),
            format_percent(graph.work[node] / total if total else 0),
            format_bytes(out[node]),
            format_bytes(parameters[node]),
            printable(graph.node_names[node]),
        )
    print_whole(console, table)
    lines = [
        ("work", f"{format_seconds(graph.seconds(total))} per inference"),
        *((f"on {kind}", on) for kind, on in _on_kinds(graph)),
        ("costs", costs(str(graph.meta.get("cost_model", "file")), graph.meta)),
        ("parameters", format_bytes(int(graph.group_bytes.sum()))),
        ("time", spent(phases)),
    ]
    print_lines(console, lines)


def _on_kinds(graph: CostGraph) -> Iterator[tuple[str, str]]:
    """Yield the kinds of devices of a fleet, and the work of what they can run."""
    for kind, work in (graph.work_on or {}).items():
        able = work[work < INFEASIBLE]
        lacking = graph.num_nodes - len(able)
        text = f"{format_seconds(graph.seconds(int(able.sum())))} per inference"
        yield kind, text + (f" without {format_count(lacking, 'node')} that it cannot run" if lacking else "")


def show_calibration(found: Calibration, stream: IO[str] | None = None) -> None:
    """Print the figures of this host."""
    rates = ", ".join(f"{dtype} {rate / 1e9:.3g} GFLOP/s" for dtype, rate in found.peak_flops.items())
    operators = ", ".join(f"{kind} {rate / 1e9:.3g}" for kind, rate in found.operator_rates.items())
    lines = [
        ("call", f"{format_seconds(found.call_seconds)} per onnxruntime call"),
        ("tensor", f"{format_seconds(found.tensor_seconds)} per tensor in or out"),
        ("hand-over", f"{format_seconds(found.handover_seconds)} between {found.transport}"),
        ("bandwidth", f"{format_bandwidth(found.bandwidth)} between {found.transport}"),
        ("rates", f"{rates} on one thread"),
        ("memory", f"{format_bandwidth(found.memory_bandwidth)} on one thread"),
        ("launch", f"{format_seconds(found.launch_overhead)} per operator"),
        ("operators", f"10^9 operations/s (bytes/s of those that move data): {operators}"),
    ]
    print_lines(make_console(stream), lines)


def show_arrays(rows: Sequence[Document], stream: IO[str] | None = None) -> None:
    """Print name, type, shape and range of arrays."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("output", overflow="fold")
    for label in ("type", "shape", "min", "max", "mean"):
        table.add_column(label, no_wrap=True)
    for row in rows:
        figures = [f"{row[key]:.6g}" if key in row else "" for key in ("min", "max", "mean")]
        table.add_row(
            printable(row["name"]), row["dtype"], "x".join(map(str, row["shape"])) or "scalar", *figures
        )
    print_whole(make_console(stream), table)


def show_verification(found: VerifyReport, stream: IO[str] | None = None, *, every: bool = False) -> None:
    """Print what was checked and how the outputs compare, all together or ``every`` one."""
    console = make_console(stream)
    lines = [(check, "ok") for check in found.checks]
    unproved = (("certificate", found.not_rechecked), ("measurement", found.corrected_not_rechecked))
    for check, bound in unproved:
        if bound is not None:
            warning = f"ok, but the {bound} bound was not rechecked (--recheck SECONDS proves it again)"
            lines[found.checks.index(check)] = (check, warning)
    if found.outputs:
        lines[found.checks.index("outputs")] = ("outputs", f"ok, {_comparison(found.outputs, every=every)}")
    if every:
        lines += [(f"output {output.name}", _compared(output)) for output in found.outputs]
    print_title(console, f"{found.directory}: {format_count(found.stages, 'stage')}, sound")
    print_lines(console, lines)


def _comparison(outputs: Sequence[OutputCheck], *, every: bool) -> str:
    """Return how all outputs compare; the worst stands for those that differ."""
    differing = [output for output in outputs if not output.equal]
    count = format_count(len(outputs), "output")
    listed = "" if every or len(outputs) == 1 else " (-v lists them)"
    if not differing:
        return f"{count} bitwise equal{listed}"
    worst = max(differing, key=lambda output: output.max_rel / (output.tolerance or 1.0))
    if len(outputs) == 1:
        return f"1 output {_compared(worst)}"
    equal = len(outputs) - len(differing)
    within = f"{len(differing)} of {count}" if equal else count
    return f"{within} within tolerance{listed}, {worst.name} {_size(worst)}"


def _compared(output: OutputCheck) -> str:
    return "bitwise equal" if output.equal else f"within tolerance: {_size(output)}"


def _size(output: OutputCheck) -> str:
    return f"off by {output.max_rel:.2g} of the largest value, {output.tolerance:g} allowed"
