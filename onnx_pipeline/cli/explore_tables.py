"""The table of an exploration, and in words how many devices suffice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import IO, TYPE_CHECKING

from onnx_pipeline.cli.terminal import make_console, print_lines, print_whole
from onnx_pipeline.cli.verdict import spent
from onnx_pipeline.errors import printable
from onnx_pipeline.figures import (
    format_bandwidth,
    format_bytes,
    format_count,
    format_percent,
    format_rate,
    format_seconds,
)
from onnx_pipeline.goals import Answer, Goals

if TYPE_CHECKING:
    from rich.table import Table

    from onnx_pipeline.exploration import Exploration, Row, Setup

COLUMNS = ("stages", "bottleneck", "rate", "latency", "bound", "gap", "memory", "speed-up")


def show(
    found: Exploration, phases: Mapping[str, float], name: str | None = None, stream: IO[str] | None = None
) -> None:
    """Print a table for each target and below it the answers, and the time spent at the end."""
    console = make_console(stream)
    unicode = "utf" in console.encoding.lower()
    for rows in found.groups():
        console.print(headline(name or found.graph.name, rows[0].setup), style="bold", soft_wrap=True)
        print_whole(console, _table(rows, unicode))
        print_lines(console, list(verdict(found, rows)))
        console.print()
    print_lines(console, [("time", spent(phases))])


def headline(name: str, setup: Setup) -> str:
    """Return what was explored, on devices of which kind."""
    target = setup.target
    hard = " at most" if target.memory_mode == "hard" else ""
    link, memory = format_bandwidth(target.bandwidth), format_bytes(target.memory)
    return printable(f"{name} on {target.name}: {link} links, {memory} memory{hard}")


def _table(rows: Sequence[Row], unicode: bool) -> Table:
    from rich import box
    from rich.table import Table

    style = box.SIMPLE_HEAD if unicode else box.ASCII_DOUBLE_HEAD
    table = Table(box=style, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for label in COLUMNS:
        table.add_column(label, justify="right", no_wrap=True)
    for _, alike in groupby(rows, _cells):
        same = list(alike)
        first, last = same[0].stages, same[-1].stages
        table.add_row(str(first) if first == last else f"{first}-{last}", *_cells(same[0]))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    """Return a row's figures but for its number of stages; rows that agree in all are shown as one."""
    result, figures = row.result, row.figures
    if result is None or figures is None:
        why = "does not fit" if row.status == "infeasible" else "none found"
        return (why, *("",) * (len(COLUMNS) - 2))
    rate = format_rate(figures.bottleneck, "") if figures.bottleneck else ""
    return (
        format_seconds(figures.bottleneck),
        rate.replace(" s/", "/").replace(" /", "/"),
        format_seconds(figures.latency),
        format_seconds(result.lower_bound),
        format_percent(result.gap),
        format_bytes(figures.memory),
        "" if row.speed_up is None else f"{row.speed_up:.2f} x",
    )


def verdict(found: Exploration, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield what follows from the rows of one target: how many devices, how many are used, replicas."""
    setup = rows[0].setup
    for asked, reached in found.answers:
        if asked is setup:
            yield "devices", devices(found.goals, reached, rows)
    solved = [row for row in rows if row.result is not None]
    last = solved[-1].result if solved else None
    if last is not None and last.used < last.stages:
        yield "used", f"{format_count(last.used, 'stage')} at most; others stay empty"
    if solved:
        yield "replicas", replicas(setup)


def replicas(setup: Setup) -> str:
    """Say what replicas of the whole model would reach on the same devices."""
    whole = setup.whole
    if not whole.seconds:
        return f"none: the whole model needs {format_bytes(whole.memory_bytes)} on one device"
    fits = "which fits" if whole.fits else "of which what does not fit is streamed"
    return (
        f"k of the whole model reach k times {format_rate(whole.seconds)} at {format_seconds(whole.seconds)} "
        f"a request; each needs {format_bytes(whole.memory_bytes)}, {fits}"
    )


def devices(goals: Goals, found: Answer, rows: Sequence[Row]) -> str:
    """Say how many stages reach the goals, and what is proved of fewer."""
    if found.stages is None:
        return f"{_wanted(goals)}: {_never(goals, found, rows)}"
    row = next(row for row in rows if row.stages == found.stages)
    text = f"{_wanted(goals)}: {format_count(found.stages, 'stage')} ({_reach(goals, row)})"
    fewer = [row.stages for row in rows if row.stages < found.stages]
    unclear = [stages for stages in fewer if stages > found.ruled_out]
    if unclear:
        text += f"; {_numbers(unclear)} not ruled out"
    elif found.stages > 1 and found.stages - 1 not in fewer:
        text += f"; {_numbers(range(found.ruled_out + 1, found.stages))} not tried"
    if found.ruled_out:
        text += f"; {format_count(found.ruled_out, 'stage')} cannot: {_reason(found)}"
    return text


def _never(goals: Goals, found: Answer, rows: Sequence[Row]) -> str:
    """Say why no number of stages that was tried is enough."""
    last = rows[-1]
    if found.forever and found.proof == "rate":
        return f"no number of stages can: {_reason(found)}{_heaviest(goals, last)}"
    if found.forever:
        return (
            f"no number of stages can: {_reason(found)}, all work with the model's inputs and outputs; "
            "more stages raise the rate, not this"
        )
    unclear = [row.stages for row in rows if row.stages > found.ruled_out]
    parts = []
    if unclear:
        reached = f" ({_reach(goals, last)})" if last.result is not None else ""
        most = format_count(last.stages, "stage")
        parts.append(f"not reached with up to {most}{reached}; {_numbers(unclear)} not ruled out")
    if found.ruled_out:
        parts.append(f"{format_count(found.ruled_out, 'stage')} cannot: {_reason(found)}")
    return "; ".join(parts)


def _heaviest(goals: Goals, row: Row) -> str:
    """Name the node that alone is too slow, if one is."""
    graph = row.setup.graph
    node = int(graph.work.argmax())
    seconds = graph.seconds(int(graph.work[node]))
    if goals.for_rate is None or seconds * goals.for_rate <= 1:
        return ""
    return printable(f"; node {graph.node_names[node]} alone works {format_seconds(seconds)}")


def _wanted(goals: Goals) -> str:
    rate, latency, fit = goals.for_rate, goals.for_latency, goals.fit
    parts = [] if rate is None else [f"{rate:g}/s"]
    parts += [] if latency is None else [f"{format_seconds(float(latency))} a request"]
    parts += [] if fit is None else [f"{format_bytes(float(fit))} each"]
    return " and ".join(parts)


def _reach(goals: Goals, row: Row) -> str:
    parts = []
    if goals.for_rate is not None and row.bottleneck_seconds:
        parts.append(format_rate(row.bottleneck_seconds))
    if goals.for_latency is not None and row.latency_seconds is not None:
        parts.append(f"{format_seconds(row.latency_seconds)} a request")
    if goals.fit is not None and row.memory_bytes is not None:
        parts.append(f"the fullest holds {format_bytes(row.memory_bytes)}")
    return ", ".join(parts)


def _reason(found: Answer) -> str:
    if found.proof == "memory" or found.proved_seconds is None:
        return "no partition fits"
    seconds = format_seconds(found.proved_seconds)
    if found.proof == "latency":
        return f"one request takes {seconds} at least"
    return f"some stage takes {seconds} at least"


def _numbers(stages: Sequence[int] | range) -> str:
    """Return ``7 is``, ``7 and 8 are`` or ``7 to 12 are``."""
    if len(stages) == 1:
        return f"{stages[0]} is"
    return f"{stages[0]} {'and' if len(stages) == 2 else 'to'} {stages[-1]} are"
