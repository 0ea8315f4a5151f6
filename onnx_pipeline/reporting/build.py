"""``report``: from a split, a plan or a result to one HTML file."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.files.atomic import check_file, new_file, write_error

if TYPE_CHECKING:
    from onnx_pipeline.partition.result import PartitionResult

#: What draws, by module: packages of the extra "report".
NEEDED = {"jinja2": "jinja2", "pygraphviz": "pygraphviz", "vl_convert": "vl-convert-python"}


def report(
    source: PartitionResult | str | os.PathLike[str],
    output: str | os.PathLike[str] = "report.html",
    *,
    trace: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Path:
    """Write a report on a partition: one HTML file that needs no network.

    Parameters
    ----------
    source : PartitionResult or path-like
        A result, the folder of a split, or a PLAN.json. A plan's graph is read from the costs that it names.
    output : path-like
        The file, which appears complete or not at all.
    trace : path-like, optional
        What ``run`` or ``bench`` wrote with ``--trace``, for the timeline; by default it is computed.
    force : bool
        Replace an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        If the file exists, or the libraries that draw are not installed.
    InputError
        If there is nothing to report on, or the trace is none.

    Examples
    --------
    >>> report("out", "report.html")  # doctest: +SKIP
    """
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise UsageError(f"reports need {', '.join(missing)}", "pip install 'onnx-pipeline[report]'")
    output = Path(output)
    check_file(output, force=force)
    from onnx_pipeline.reporting.page import render
    from onnx_pipeline.reporting.subject import read_subject

    page = render(read_subject(source), None if trace is None else read_trace(trace))
    try:
        with new_file(output) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise write_error(output, error) from None
    return output


def read_trace(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the events of a trace in Chrome's format.

    Raises
    ------
    InputError
        If it is not one that this package wrote.
    """
    from onnx_pipeline.files.json import read_json

    document = read_json(path)
    events = document.get("traceEvents") if isinstance(document, dict) else None
    if not isinstance(events, list) or not all(map(_is_event, events)):
        raise InputError(path, "not a trace of a pipeline", "`onnx-pipeline run` with --trace writes one")
    return events


def _is_event(event: object) -> bool:
    """Whether an event is complete where it is a stage's span."""
    if not isinstance(event, dict):
        return False
    if event.get("ph") != "X" or event.get("cat") != "stage":
        return True
    arguments = event.get("args")
    numbers = [event.get("ts"), event.get("dur")]
    whole = [event.get("tid"), arguments.get("request") if isinstance(arguments, dict) else None]
    return all(isinstance(x, int | float) and 0 <= x < 1e15 for x in numbers) and all(
        isinstance(x, int) and 0 <= x < 1 << 31 for x in whole
    )
