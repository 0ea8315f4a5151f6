"""The tables of a plan with replicas: its stages, and the three ways to use the devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnx_pipeline.arrangement import cells, counts, periods, ways
from onnx_pipeline.figures import format_bytes, format_count, format_percent, format_seconds

if TYPE_CHECKING:
    from rich.console import Console

Document = Mapping[str, Any]
Column = tuple[str, list[str]]
HEADINGS = ("", "rate", "latency", "memory")


def stage_columns(document: Document) -> list[Column]:
    """Return every column with a cell per stage but for the bar of its load."""
    stages: Sequence[Document] = document["stages"]
    costs, replicas = [stage["cost"] for stage in stages], counts(document)
    columns: list[Column] = [
        ("stage", [str(stage["index"]) for stage in stages]),
        ("nodes", [str(stage["nodes"]) for stage in stages]),
        ("work", [format_seconds(cost["work_seconds"]) for cost in costs]),
        ("in+out", [format_seconds(cost["input_seconds"] + cost["output_seconds"]) for cost in costs]),
    ]
    if any(cost["overflow_seconds"] for cost in costs):
        columns.append(("overflow", [format_seconds(cost["overflow_seconds"]) for cost in costs]))
    held = [stage["parameter_bytes"] + stage.get("peak_activation_bytes", 0) for stage in stages]
    return [
        *columns,
        ("memory", [format_bytes(size) for size in held]),
        ("cost", [format_seconds(cost["total_seconds"]) for cost in costs]),
        ("devices", [str(count) for count in replicas]),
        ("period", [format_seconds(period) for period in periods(document)]),
    ]


def print_ways(console: Console, document: Document) -> None:
    """Print what whole replicas, stages and the plan would come to."""
    from rich.table import Table

    from onnx_pipeline.cli.terminal import print_whole

    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    devices = document["target"]["devices"]
    table.add_column(format_count(devices, "device"), no_wrap=True)
    for label in HEADINGS:
        table.add_column(label, justify="right" if label else "left", no_wrap=True)
    *others, plan = ways(document)
    for way in others:
        table.add_row(*cells(way))
    table.add_row(*cells(plan), style="bold")
    print_whole(console, table)


def used(document: Document) -> str:
    """Say how many of the devices have something to do."""
    taken, there = sum(counts(document)), document["target"]["devices"]
    spare = "" if taken == there else "; another one would not shorten the period"
    return f"{taken} of {there} used{spare}"


def gap(certificate: Document, which: str) -> str:
    """Say what is proved, and about which costs."""
    devices = format_count(certificate["problem"]["devices"], "device")
    size = format_percent(certificate["gap"])
    if certificate["status"] == "optimal":
        return f"{size}: proved optimal among all stages and replicas on {devices}, {which}"
    return f"{size}: no stages and replicas on {devices} are better by more than this {which}"
