"""``report``: from a split, a plan or a result to one HTML file."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_pipeline.errors import UsageError
from onnx_pipeline.files.atomic import check_file, new_file, write_error

if TYPE_CHECKING:
    from onnx_pipeline.solution import Solution

#: What draws, by module: packages of the extra "report".
NEEDED = {"jinja2": "jinja2", "pygraphviz": "pygraphviz", "vl_convert": "vl-convert-python"}


def report(
    source: Solution | str | os.PathLike[str],
    output: str | os.PathLike[str] = "report.html",
    *,
    trace: str | os.PathLike[str] | None = None,
    bench: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Path:
    """Write a report on a partition: one HTML file that needs no network.

    Parameters
    ----------
    source : PartitionResult, ReplicaPlan or path-like
        A result, the folder of a split, or a PLAN.json. A plan's graph is read from the costs that it names.
    output : path-like
        The file, which appears complete or not at all.
    trace : path-like, optional
        What ``run`` or ``bench`` wrote with ``--trace``, for the timeline; by default it is computed.
    bench : path-like, optional
        What ``bench`` printed with ``--json``, or :func:`~onnx_pipeline.bench` returned, as a file: measured
        times of the stages, instead of those that ``split`` measured.
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
        If there is nothing to report on, or trace or bench are not what they should be.

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
    from onnx_pipeline.reporting.recordings import read_bench, read_trace
    from onnx_pipeline.reporting.subject import read_subject

    events = None if trace is None else read_trace(trace)
    measured = None if bench is None else read_bench(bench)
    page = render(read_subject(source), events, measured)
    try:
        with new_file(output) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise write_error(output, error) from None
    return output
