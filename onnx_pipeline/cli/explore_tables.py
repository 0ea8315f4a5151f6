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
from onnx_pipeline.rows import DeviceRow

if TYPE_CHECKING:
    from rich.table import Table

    from onnx_pipeline.exploration import Exploration
    from onnx_pipeline.replica_plan import ReplicaPlan
    from onnx_pipeline.rows import Row, Setup

COLUMNS = ("stages", "bottleneck", "rate", "latency", "bound", "gap", "memory", "speed-up")
DEVICE_COLUMNS = ("devices", "period", "rate", "latency", "bound", "gap", "memory", "stages")
#: Columns that the devices of all stages may take.
WIDEST = 16


def show(
    found: Exploration, phases: Mapping[str, float], name: str | None = None, stream: IO[str] | None = None
) -> None:
    """Print a table for each target and below it the answers, and the time spent at the end."""
    console = make_console(stream)
    unicode = "utf" in console.encoding.lower()
    for rows in found.groups():
        console.print(headline(name or found.graph.name, rows[0].setup), style="bold", soft_wrap=True)
        print_whole(console, _table(found.shown(rows), unicode))
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
    labels = DEVICE_COLUMNS if rows and isinstance(rows[0], DeviceRow) else COLUMNS
    for label in labels[:-1]:
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column(labels[-1], justify="left" if labels is DEVICE_COLUMNS else "right", no_wrap=True)
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
    return (
        format_seconds(figures.bottleneck),
        format_rate(figures.bottleneck, "") if figures.bottleneck else "",
        format_seconds(figures.latency),
        format_seconds(result.lower_bound),
        format_percent(result.gap),
        format_bytes(figures.memory),
        _devices_of(row.plan) if isinstance(row, DeviceRow) and row.plan is not None else _speed_up(row),
    )


def _speed_up(row: Row) -> str:
    return "" if row.speed_up is None else f"{row.speed_up:.2f} x"


def _devices_of(plan: ReplicaPlan) -> str:
    """Return the number of stages and the devices of each: ``3 on 2+4+2``, ``12 on 1 to 3 each``."""
    counts = [count for count in plan.replicas if count]
    text = f"{len(counts)} on {'+'.join(map(str, counts))}"
    if len(text) <= WIDEST:
        return text
    each = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    return f"{len(counts)} on {each} each"


def verdict(found: Exploration, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield what follows from the rows of one target: how many devices, how many are used, replicas."""
    setup = rows[0].setup
    for asked, reached in found.answers:
        if asked is setup:
            yield "devices", devices(found.goals, reached, rows)
    solved = [row for row in rows if row.result is not None]
    last = solved[-1].result if solved else None
    if last is not None and solved[-1].figures is not None and solved[-1].figures.used < solved[-1].stages:
        idle = "idle" if rows[0].noun == "device" else "empty"
        yield "used", f"{format_count(last.used, rows[0].noun)} at most; others stay {idle}"
    if solved:
        yield "replicas", replicas(setup, solved)


def replicas(setup: Setup, rows: Sequence[Row]) -> str:
    """Say what replicas of the whole model would reach on the same devices, and where they are faster."""
    whole = setup.whole
    if not whole.seconds:
        return f"none: the whole model needs {format_bytes(whole.memory_bytes)} on one device"
    fits = "which fits" if whole.fits else "of which what does not fit is streamed"
    return (
        f"k of the whole model reach k times {format_rate(whole.seconds)} at {format_seconds(whole.seconds)} "
        f"a request; each needs {format_bytes(whole.memory_bytes)}, {fits}{_faster(rows)}"
    )


def _faster(rows: Sequence[Row]) -> str:
    """Say whether the pipeline or replicas answer more requests; k replicas have a speed-up of k."""
    if isinstance(rows[0], DeviceRow):
        return _mixed(rows)
    several = [row for row in rows if row.stages > 1 and row.speed_up]
    better = sum((row.speed_up or 0.0) > row.stages for row in several)
    if not several:
        return ""
    if better in (0, len(several)):
        return f"; always {'slower' if better else 'faster'} than the pipeline"
    return f"; the pipeline is faster in {better} of {len(several)} rows: speed-up above stages"


def _mixed(rows: Sequence[Row]) -> str:
    """Say in how many rows stages with replicas are better than replicas of the whole model."""
    better = sum(row.result is not None and row.result.partition.used > 1 for row in rows)
    if not better:
        return "; never slower than stages with replicas"
    return f"; stages with replicas are faster in {better} of {len(rows)} rows"


def devices(goals: Goals, found: Answer, rows: Sequence[Row]) -> str:
    """Say how many stages reach the goals, and what is proved of fewer."""
    if found.stages is None:
        return f"{_wanted(goals)}: {_never(goals, found, rows)}"
    row = next(row for row in rows if row.stages == found.stages)
    text = f"{_wanted(goals)}: {format_count(found.stages, row.noun)} ({_reach(goals, row)})"
    fewer = [row.stages for row in rows if row.stages < found.stages]
    unclear = [stages for stages in fewer if stages > found.ruled_out]
    if unclear:
        text += f"; {_numbers(unclear)} not ruled out"
    elif found.stages > 1 and found.stages - 1 not in fewer:
        text += f"; {_numbers(range(found.ruled_out + 1, found.stages))} not tried"
    if found.ruled_out:
        text += f"; {format_count(found.ruled_out, row.noun)} cannot: {_reason(found, row.noun)}"
    return text


def _never(goals: Goals, found: Answer, rows: Sequence[Row]) -> str:
    """Say why no number of stages that was tried is enough."""
    last = rows[-1]
    if found.forever and found.proof == "rate":
        return f"no number of {last.noun}s can: {_reason(found, last.noun)}{_heaviest(goals, last)}"
    if found.forever:
        return (
            f"no number of {last.noun}s can: {_reason(found, last.noun)}, all work with the model's inputs "
            f"and outputs; more {last.noun}s raise the rate, not this"
        )
    unclear = [row.stages for row in rows if row.stages > found.ruled_out]
    parts = []
    if unclear:
        reached = f" ({_reach(goals, last)})" if last.result is not None else ""
        most = format_count(last.stages, last.noun)
        parts.append(f"not reached with up to {most}{reached}; {_numbers(unclear)} not ruled out")
    if found.ruled_out:
        parts.append(f"{format_count(found.ruled_out, last.noun)} cannot: {_reason(found, last.noun)}")
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
    parts = [] if rate is None else [f"{rate:,.12g}/s"]
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


def _reason(found: Answer, noun: str) -> str:
    if found.proof == "memory" or found.proved_seconds is None:
        return "no partition fits"
    seconds = format_seconds(found.proved_seconds)
    if found.proof == "latency":
        return f"one request takes {seconds} at least"
    if noun == "device":
        return f"at best a request every {seconds}"
    return f"some stage takes {seconds} at least"


def _numbers(stages: Sequence[int] | range) -> str:
    """Return ``7 is``, ``7 and 8 are`` or ``7 to 12 are``."""
    if len(stages) == 1:
        return f"{stages[0]} is"
    return f"{stages[0]} {'and' if len(stages) == 2 else 'to'} {stages[-1]} are"
