"""The cuts as files: CSV with a row per tensor and target, and pictures of the stages with their links."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from onnx_pipeline.borders.crossings import MODEL, Crossing, End, links
from onnx_pipeline.errors import UsageError, printable
from onnx_pipeline.figures import format_bytes, format_seconds
from onnx_pipeline.solution import Solution

COLUMNS = ("tensor", "source", "target", "dtype", "shape", "bytes", "seconds", "producer", "consumers")
#: Names under the label of a link; more are counted.
MOST_NAMES = 3
#: Characters of a name in a picture; what a name ends with tells more than how it begins.
MOST_CHARACTERS = 40


def as_csv(crossings: Sequence[Crossing], _: Solution) -> str:
    """Return a row per tensor and target; shapes as ``1x64x56x56``, several consumers divided by spaces."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for crossing in crossings:
        for target in crossing.targets:
            writer.writerow(
                [
                    crossing.tensor,
                    crossing.source,
                    target,
                    crossing.dtype or "",
                    shape_text(crossing.shape),
                    crossing.bytes,
                    crossing.seconds,
                    crossing.producer or "",
                    " ".join(() if target == MODEL else crossing.consumers[int(target)]),
                ]
            )
    return text.getvalue()


def as_dot(crossings: Sequence[Crossing], result: Solution) -> str:
    """Return the stages and their links in Graphviz's language."""
    lines = [
        "digraph pipeline {",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="Helvetica", fontsize=11];',
        '  edge [fontname="Helvetica", fontsize=9];',
    ]
    boxes, arrows = picture(crossings, result)
    lines += [f"  {name} [label={_quoted(label)}];" for name, label in boxes]
    lines += [
        f"  {source} -> {target} [label={_quoted(label)}, tooltip={_quoted(names)}];"
        for source, target, label, names in arrows
    ]
    return "\n".join([*lines, "}", ""])


def as_mermaid(crossings: Sequence[Crossing], result: Solution) -> str:
    """Return the stages and their links as a Mermaid flowchart, which Markdown viewers draw."""
    boxes, arrows = picture(crossings, result)
    lines = ["flowchart LR"]
    lines += [f'  {name}["{_entities(label)}"]' for name, label in boxes]
    lines += [f'  {source} -->|"{_entities(label)}"| {target}' for source, target, label, _ in arrows]
    return "\n".join([*lines, ""])


def as_svg(crossings: Sequence[Crossing], result: Solution) -> str:
    """Return the picture of :func:`as_dot`, drawn by Graphviz.

    Raises
    ------
    UsageError
        If pygraphviz, which brings Graphviz with it, is not installed.
    """
    try:
        from pygraphviz import AGraph
    except ImportError:
        install = 'pip install "onnx-pipeline[report]", or write the dot format'
        raise UsageError("drawing SVG takes pygraphviz", install) from None
    drawing: bytes = AGraph(as_dot(crossings, result)).draw(format="svg", prog="dot")
    return drawing.decode()


#: By name, what writes the cuts as text.
FORMATS: dict[str, Callable[[Sequence[Crossing], Solution], str]] = {
    "csv": as_csv,
    "dot": as_dot,
    "mermaid": as_mermaid,
    "svg": as_svg,
}


def picture(
    crossings: Sequence[Crossing], result: Solution
) -> tuple[list[tuple[str, str]], list[tuple[str, str, str, str]]]:
    """Return boxes (identifier, label) and arrows (from, to, label, names of all tensors)."""
    boxes = []
    for index, cost in enumerate(result.costs):
        if cost.nodes:
            time = format_seconds(result.graph.seconds(cost.total))
            boxes.append((f"stage{index}", f"stage {index}\n{time}"))
    pairs = links(list(crossings))
    if any(source == MODEL for source, _ in pairs):
        boxes.insert(0, ("inputs", "inputs"))
    if any(target == MODEL for _, target in pairs):
        boxes.append(("outputs", "outputs"))
    arrows = []
    for (source, target), tensors in pairs.items():
        begin = "inputs" if source == MODEL else f"stage{source}"
        end = "outputs" if target == MODEL else f"stage{target}"
        names = "\n".join(printable(tensor.tensor) for tensor in tensors)
        arrows.append((begin, end, _label(tensors), names))
    return boxes, arrows


def end_text(end: End, model: str) -> str:
    """Return ``stage 3``, or what the model's end is called."""
    return model if end == MODEL else f"stage {end}"


def shape_text(shape: tuple[int, ...] | None) -> str:
    """Return ``1x64x56x56``, ``scalar``, or nothing where it is not known."""
    if shape is None:
        return ""
    return "x".join(map(str, shape)) or "scalar"


def type_text(crossing: Crossing) -> str:
    """Return element type and shape, as far as they are known: ``float32 1x64x56x56``."""
    return " ".join(filter(None, (crossing.dtype, shape_text(crossing.shape))))


def _label(tensors: Sequence[Crossing]) -> str:
    lines = []
    for tensor in tensors[:MOST_NAMES]:
        name = printable(tensor.tensor)
        lines.append(name if len(name) <= MOST_CHARACTERS else "…" + name[1 - MOST_CHARACTERS :])
        if len(tensors) == 1 and type_text(tensor):
            lines.append(type_text(tensor))
    if len(tensors) > MOST_NAMES:
        lines.append(f"and {len(tensors) - MOST_NAMES} more")
    return "\n".join([*lines, format_bytes(sum(tensor.bytes for tensor in tensors))])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _entities(text: str) -> str:
    """Write a label of Mermaid: its own entities for what means something there."""
    text = "".join(c if c.isalnum() or c in " \n./_-:…" else f"#{ord(c)};" for c in text)
    return text.replace("\n", "<br/>")
