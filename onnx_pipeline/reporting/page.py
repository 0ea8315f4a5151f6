"""The page: every part of a report put into one HTML text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from onnx_pipeline.errors import printable
from onnx_pipeline.partition.result import Partition
from onnx_pipeline.reporting import boxes, charts, drawing, layers, layout, sections, verdict
from onnx_pipeline.reporting.subject import Subject


def render(
    subject: Subject,
    events: Sequence[Mapping[str, Any]] | None = None,
    bench: Mapping[str, Any] | None = None,
) -> str:
    """Return a report as HTML that asks for nothing outside itself.

    Parameters
    ----------
    subject : Subject
    events : sequence of mapping, optional
        Of a trace, for the timeline.
    bench : mapping, optional
        What a benchmark measured.
    """
    import jinja2

    document = subject.document
    script = _resource("report.js")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    parts = [
        sections.stages(document),
        sections.memory(document),
        sections.transfers(subject),
        sections.measured(document, bench),
        sections.timeline(document, events),
        sections.history(document),
    ]
    return environment.get_template("report.html").render(
        subject=subject,
        document=document,
        target=target_text(document["target"]),
        tiles=verdict.tiles(document),
        warnings=verdict.warnings(subject),
        sections=parts,
        drawn={part.key: _drawn(part) for part in parts},
        graph=None if subject.partition is None else _graph(subject, subject.partition),
        origin=list(sections.origin(subject)),
        style=_resource("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _resource(name: str) -> str:
    return resources.files("onnx_pipeline.reporting").joinpath("templates", name).read_text("utf-8")


def _shown(value: Any) -> Any:
    """Spell out control characters in every text that is not markup already."""
    return printable(value) if type(value) is str else value


def _drawn(part: sections.Section) -> list[tuple[str, str]]:
    """Draw a chart for wide and for narrow pages."""
    if part.chart is None:
        return []
    widths = (("wide", charts.WIDE), ("narrow", charts.NARROW))
    return [(name, drawing.svg(part.chart(width), part.title)) for name, width in widths]


def target_text(target: Mapping[str, Any]) -> str:
    """Return what was partitioned for: ``8 devices (cpu), 10 GB/s, 8 GiB each``."""
    from onnx_pipeline.figures import format_bandwidth, format_bytes, format_count

    if "fleet" in target:
        return f"{format_count(len(target['fleet']['devices']), 'device')} ({target['device']})"
    devices = target.get("devices", target["stages"])
    parts = [f"{format_count(devices, 'device')} ({target['device']})"]
    speed, memory = target.get("bandwidth_bytes_per_second"), target.get("memory_bytes")
    parts.append("links without limit" if speed is None else format_bandwidth(speed))
    parts.append("memory without limit" if memory is None else f"{format_bytes(memory)} each")
    return ", ".join(parts)


def _graph(subject: Subject, partition: Partition) -> dict[str, Any]:
    """Return what the picture of the graph is made of."""
    drawn = layers.draw(partition)
    places = layout.arrange(drawn)
    found = boxes.boxes(subject, drawn, places)
    return {
        "layout": places,
        "boxes": found,
        "times": boxes.times(subject),
        "collapsed": drawn.collapsed,
        "nodes": partition.graph.num_nodes,
        "data": [_harmless(asdict(box)) for box in found],
    }


def _harmless(box: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the script needs of a box, its texts without control characters."""
    return {
        "lines": [printable(line) for line in box["lines"]],
        "names": [printable(name) for name in box["names"]],
        "stage": box["stage"],
        "after": box["after"],
        "before": box["before"],
    }
