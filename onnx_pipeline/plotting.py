"""A picture of an exploration: rate and latency over the number of stages, one line for each target."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_pipeline.errors import UsageError

if TYPE_CHECKING:
    from onnx_pipeline.exploration import Exploration
    from onnx_pipeline.rows import Row

SUFFIXES = (".png", ".svg", ".pdf")


def check_matplotlib() -> None:
    """Refuse to plot without matplotlib, before any work.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    if find_spec("matplotlib") is None:
        raise UsageError(
            "a plot needs matplotlib", "pip install 'onnx-pipeline[plot]', or write .csv or .json"
        )


def plot(found: Exploration, path: Path) -> None:
    """Write a plot; the suffix of the path is its format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from onnx_pipeline.files.atomic import new_file

    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    for group in found.groups():
        solved = [row for row in found.shown(group) if row.result is not None]
        stages = [row.stages for row in solved]
        (line,) = above.plot(stages, [row.rate_per_second for row in solved], ".-", label=_label(group[0]))
        most = [1 / row.lower_bound_seconds if row.lower_bound_seconds else None for row in solved]
        above.plot(stages, most, ":", color=line.get_color())
        latencies = [None if row.latency_seconds is None else 1e3 * row.latency_seconds for row in solved]
        below.plot(stages, latencies, ".-", color=line.get_color())
    if found.goals.for_rate is not None:
        above.axhline(found.goals.for_rate, color="grey", linewidth=0.8)
    if found.goals.for_latency is not None:
        below.axhline(1e3 * float(found.goals.for_latency), color="grey", linewidth=0.8)
    above.set_title(f"{found.graph.name}: dotted, what no partition can exceed")
    above.set_ylabel("requests per second")
    below.set_ylabel("latency of one request, ms")
    below.set_xlabel(f"{found.rows[0].noun}s" if found.rows else "stages")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    above.legend()
    with new_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), metadata=_METADATA.get(path.suffix.lower()))


#: Without dates: the same exploration makes the same file.
_METADATA = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def _label(row: Row) -> str:
    from onnx_pipeline.figures import format_bandwidth, format_bytes

    target = row.setup.target
    return f"{format_bandwidth(target.bandwidth)}, {format_bytes(target.memory)} memory"
