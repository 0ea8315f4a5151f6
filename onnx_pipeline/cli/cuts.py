"""``show --cuts`` and its relatives: where a partition cuts a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from onnx_pipeline.cli.results import Report
from onnx_pipeline.errors import UsageError, printable
from onnx_pipeline.figures import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from onnx_pipeline.borders.crossings import Crossing, End

#: Consumers named per tensor and stage; the others are counted.
MOST_CONSUMERS = 3


def show_cuts(
    path: Path, report: Report, cuts: bool, form: str | None, node_data: str | None, output: Path | None
) -> None:
    """Print or write the cuts of a split or plan, or data for its nodes."""
    from onnx_pipeline.borders.crossings import cuts as list_cuts
    from onnx_pipeline.borders.formats import FORMATS
    from onnx_pipeline.borders.overlay import OVERLAYS
    from onnx_pipeline.planned import read_result

    if node_data is not None and (cuts or form is not None):
        raise UsageError("--node-data is about nodes: give it without --cuts and --format")
    if form is not None and report.as_json:
        raise UsageError(f"--json and --format {form} are two forms of the same", "give one of them")
    result = read_result(path)
    if node_data is not None:
        text = json.dumps(OVERLAYS[node_data](result), indent=1, ensure_ascii=False) + "\n"
    else:
        crossings = list_cuts(result)
        if form is None:
            document = {"tensors": [crossing.to_json() for crossing in crossings]}
            if output is None:
                report.result(document, lambda: print_cuts(crossings, path))
                return
            text = json.dumps(document, indent=1) + "\n"
        else:
            text = FORMATS[form](crossings, result)
    _write(text, output)


def _write(text: str, output: Path | None) -> None:
    """Write a text to a file, in one piece, or to stdout."""
    if output is None:
        click.echo(text, nl=False)
        return
    from onnx_pipeline.files.atomic import new_file

    with new_file(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    click.echo(f"written to {output}")


def print_cuts(crossings: Sequence[Crossing], path: Path, stream: IO[str] | None = None) -> None:
    """Print every border with its tensors: type and size, who produces and who reads them."""
    from onnx_pipeline.borders.crossings import MODEL, links
    from onnx_pipeline.borders.formats import end_text, type_text
    from onnx_pipeline.cli.terminal import make_console

    console = make_console(stream)
    between = [c for c in crossings if c.source != MODEL and set(c.targets) != {MODEL}]
    moved = sum(c.bytes for c in between)
    title = f"{path}: {format_count(len(between), 'tensor')} between stages, {format_bytes(moved)}"
    console.print(printable(title), style="bold", soft_wrap=True)
    for (source, target), tensors in links(list(crossings)).items():
        size = format_bytes(sum(tensor.bytes for tensor in tensors))
        head = f"{end_text(source, 'inputs')} -> {end_text(target, 'outputs')}"
        parts = [format_count(len(tensors), "tensor"), size]
        if isinstance(source, int) and isinstance(target, int) and target - source > 1:
            parts.append(f"skips {format_count(target - source - 1, 'stage')}")
        console.print(f"\n{head}: {', '.join(parts)}", style="bold", soft_wrap=True)
        for tensor in tensors:
            console.print(f"  {printable(tensor.tensor)}", soft_wrap=True)
            facts = [type_text(tensor), format_bytes(tensor.bytes), format_seconds(tensor.seconds)]
            console.print(f"    {', '.join(filter(None, facts))}", soft_wrap=True)
            if tensor.producer is not None:
                console.print(f"    from {printable(tensor.producer)}", soft_wrap=True)
            if target != MODEL:
                console.print(f"    to   {_readers(tensor.consumers, target)}", soft_wrap=True)


def _readers(consumers: Mapping[int, tuple[str, ...]], target: End) -> str:
    names = [printable(name) for name in consumers[int(target)]]
    more = f" and {len(names) - MOST_CONSUMERS} more" if len(names) > MOST_CONSUMERS else ""
    return ", ".join(names[:MOST_CONSUMERS]) + more
