"""Plans and splits in a notebook: one self-contained piece of HTML, readable on light and on dark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from onnx_pipeline.arrangement import periods, shared_costs, with_replicas
from onnx_pipeline.errors import printable
from onnx_pipeline.figures import format_bytes, format_count, format_seconds

Document = Mapping[str, Any]
#: What a stage pays for, its key in a document and its colour: of Okabe and Ito's, told apart by everybody.
PARTS = (
    ("work", "work_seconds", "#0072b2"),
    ("in", "input_seconds", "#e69f00"),
    ("out", "output_seconds", "#56b4e9"),
    ("overflow", "overflow_seconds", "#d55e00"),
    ("overhead", "overhead_seconds", "#999999"),
)
#: More stages than a reader looks at.
MOST_ROWS = 64
_CELL = "padding:1px 10px 1px 0;text-align:right;white-space:nowrap"
_BAR = "position:relative;width:260px;height:12px;font-size:0;white-space:nowrap;text-align:left"
_LINE = "border-left:2px solid currentColor"
_QUIET = "opacity:.7"
_INLINE = "display:inline-block"


def card(document: Document) -> str:
    """Return what a notebook shows of a manifest or plan document: verdict and a bar for every stage.

    All style is inline, texts have the colour of the page, nothing is loaded, and names are escaped.
    """
    from onnx_pipeline.cli.tables import headline
    from onnx_pipeline.cli.verdict import verdict

    title = _tag("div", _tag("b", _text(headline(document))))
    table = _tag("table", "".join(_rows(document)), "border-collapse:collapse;margin:6px 0;color:inherit")
    lines = "".join(_line(*line) for line in verdict(document) if line[0] != "time")
    return _tag("div", title + table + _legend(document) + lines, "margin:4px 0;line-height:1.4")


def _line(label: str, text: str) -> str:
    cells = _tag("span", _text(label), f"flex:0 0 7em;{_QUIET}") + _tag("span", _text(text))
    return _tag("div", cells, "display:flex")


def _tag(name: str, content: str = "", style: str = "", more: str = "") -> str:
    attributes = f' style="{style}"' if style else ""
    return f"<{name}{attributes}{more}>{content}</{name}>"


def _text(value: Any) -> str:
    return escape(printable(str(value)))


def _rows(document: Document) -> Iterator[str]:
    """Yield the heading and one row per stage."""
    stages = document["stages"]
    several = with_replicas(document)
    more = ("devices", "period") if several else ()
    labels = ("stage", "nodes", "", "total", *more, "params", "peak")
    yield _row(_tag("th", label, f"{_CELL};font-weight:normal;{_QUIET}") for label in labels)
    times, costs = periods(document), shared_costs(document)
    most, bound = max(times, default=0.0), document["certificate"]["lower_bound_seconds"]
    for stage, period, cost in list(zip(stages, times, costs, strict=True))[:MOST_ROWS]:
        total, peak = stage["cost"]["total_seconds"], stage.get("peak_activation_bytes")
        texts = (
            str(stage["index"]),
            f"{stage['nodes']:,}",
            _bar(cost, most, bound),
            format_seconds(total),
            *((str(stage.get("replicas", 1)), format_seconds(period)) if several else ()),
            format_bytes(stage["parameter_bytes"]),
            "" if peak is None else format_bytes(peak),
        )
        weight = "bold" if period == most else "normal"
        yield _row(_tag("td", text, f"{_CELL};font-weight:{weight}") for text in texts)
    if len(stages) > MOST_ROWS:
        rest = f"and {format_count(len(stages) - MOST_ROWS, 'further stage')}"
        yield _row([_tag("td", rest, _CELL, f' colspan="{len(labels)}"')])


def _row(cells: Iterator[str] | list[str]) -> str:
    # Notebooks shade every other row, which would be taken for a bar.
    return _tag("tr", "".join(cells), "background:none")


def _bar(cost: Document, most: float, bound: float) -> str:
    """Draw what a stage pays for, in shares of the bottleneck, with the lower bound as a line."""
    if not most:
        return _tag("div", "", _BAR)
    parts = "".join(
        _tag(
            "span",
            style=f"{_INLINE};height:100%;width:{100 * cost[key] / most:.2f}%;background:{colour}",
            more=f' title="{label} {format_seconds(cost[key])}"',
        )
        for label, key, colour in PARTS
        if cost.get(key)
    )
    place = f"position:absolute;top:-2px;bottom:-2px;left:{min(100.0, 100 * bound / most):.2f}%;{_LINE}"
    line = _tag("span", "", place, f' title="lower bound {format_seconds(bound)}"')
    return _tag("div", parts + line, f"{_BAR};background:rgba(128,128,128,.15)")


def _legend(document: Document) -> str:
    """Name the colours that occur."""
    swatch = f"{_INLINE};height:10px;margin-right:4px"
    used = [part for part in PARTS if any(stage["cost"].get(part[1]) for stage in document["stages"])]
    marks = [(f"{swatch};width:10px;background:{colour}", label) for label, _, colour in used]
    marks.append((f"{swatch};{_LINE}", "lower bound"))
    names = (_tag("span", _tag("span", "", style) + label, "margin-right:12px") for style, label in marks)
    return _tag("div", "".join(names), "font-size:90%;margin-bottom:4px")
