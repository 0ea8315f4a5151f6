"""The charts as Vega-Lite specifications; their colours are variables of the page's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx_pipeline.errors import printable
from onnx_pipeline.reporting.figures import PARTS, Scale

Spec = dict[str, Any]
Row = Mapping[str, Any]
#: Widths in pixels: for a page on a screen, and for one on a phone.
WIDE, NARROW = 740, 340
#: More stages than this have no figures inside the cells of a matrix, or on the bars of a timeline.
LEGIBLE = 16


def stages(rows: Sequence[Row], scale: Scale, bound: float, width: int) -> Spec:
    """Stacked bars, one per stage, and the bound as a line.

    Parameters
    ----------
    rows : sequence of mapping
        ``stage``, ``part``, ``seconds``, ``tip``; one per stage and part.
    scale : Scale
    bound : float
        In seconds.
    width : int
    """
    parts = [part for part in PARTS if any(row["part"] == part for row in rows)]
    colour = {
        "field": "part",
        "type": "nominal",
        "scale": {"domain": parts, "range": [f"var(--{part})" for part in parts]},
    }
    bars = {
        "data": {
            "values": [{**row, "x": scale.of(row["seconds"]), "at": PARTS.index(row["part"])} for row in rows]
        },
        "mark": {"type": "bar", "stroke": "var(--paper)", "strokeWidth": 0.5},
        "encoding": {
            "y": _stage(),
            "x": {
                "field": "x",
                "type": "quantitative",
                "axis": _axis(f"time per inference, {scale.name}", width),
            },
            "color": colour,
            "order": {"field": "at"},
            "description": {"field": "tip"},
        },
    }
    return _layered(width, [bars, *_limit(scale.of(bound), f"lower bound {scale.text(bound)}")])


def memory(rows: Sequence[Row], limit: float | None, width: int) -> Spec:
    """Stacked bars of bytes, one per stage, and the limit as a line; rows as in :func:`stages`."""
    unit = _byte_unit(max([*_sums(rows, "bytes"), limit or 0.0]))
    kinds = list(dict.fromkeys(row["part"] for row in rows))
    bars = {
        "data": {
            "values": [{**row, "x": row["bytes"] / unit[0], "at": kinds.index(row["part"])} for row in rows]
        },
        "mark": {"type": "bar", "stroke": "var(--paper)", "strokeWidth": 0.5},
        "encoding": {
            "y": _stage(),
            "x": {"field": "x", "type": "quantitative", "axis": _axis(unit[1], width)},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": {"domain": kinds, "range": ["var(--work)", "var(--in)"][: len(kinds)]},
            },
            "order": {"field": "at"},
            "description": {"field": "tip"},
        },
    }
    return _layered(width, [bars, *([] if limit is None else _limit(limit / unit[0], "limit"))])


def transfers(rows: Sequence[Row], ends: Sequence[str], width: int) -> Spec:
    """A matrix of bytes from row to column; cells that skip stages have a frame.

    Parameters
    ----------
    rows : sequence of mapping
        ``source``, ``target``, ``bytes``, ``size`` (the bytes as text), ``skip``, ``tip``.
    ends : sequence of str
        Rows and columns in order.
    width : int
    """
    few = len(ends) <= LEGIBLE and width == WIDE
    step = min(62, (width - 60) // max(1, len(ends)))
    most = max((row["bytes"] for row in rows), default=1) or 1
    grid = {"grid": True, "tickBand": "extent", "domain": False, "ticks": False, "labelOverlap": True}
    end = {"type": "nominal", "sort": list(ends), "scale": {"domain": list(ends)}}
    place: Spec = {
        "y": {**end, "field": "source", "title": "from", "axis": grid},
        "x": {**end, "field": "target", "title": "to", "axis": {**grid, "orient": "top", "labelAngle": 0}},
        "description": {"field": "tip"},
    }
    values = [{**row, "share": 0.25 + 0.75 * row["bytes"] / most} for row in rows]
    cells = {
        "mark": {"type": "rect", "color": "var(--work)"},
        "encoding": {
            **place,
            "opacity": {"field": "share", "type": "quantitative", "scale": None, "legend": None},
        },
    }
    frames = {
        "transform": [{"filter": "datum.skip"}],
        "mark": {"type": "rect", "filled": False, "stroke": "var(--skip)", "strokeWidth": 2.5},
        "encoding": place,
    }
    layer = [cells, frames]
    if few:
        ink = {"condition": {"test": "datum.share > 0.55", "value": "#000"}, "value": "var(--ink)"}
        text = {**place, "text": {"field": "size"}, "color": ink}
        layer.append({"mark": {"type": "text", "fontSize": 11}, "encoding": text})
    return {
        "width": {"step": step},
        "height": {"step": step if few else max(8, min(step, 24))},
        "data": {"values": _harmless(values)},
        "layer": layer,
    }


def measured(rows: Sequence[Row], scale: Scale, width: int) -> Spec:
    """Predicted and measured seconds side by side; rows with ``stage``, ``kind``, ``seconds``, ``tip``."""
    kinds = ["predicted", "measured"]
    return {
        "width": width - 60,
        "height": {"step": 11},
        "data": {"values": _harmless([{**row, "x": scale.of(row["seconds"])} for row in rows])},
        "mark": {"type": "bar"},
        "encoding": {
            "y": _stage(),
            "yOffset": {"field": "kind", "sort": kinds},
            "x": {
                "field": "x",
                "type": "quantitative",
                "axis": _axis(f"time of execution, {scale.name}", width),
            },
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": kinds, "range": ["var(--idle)", "var(--work)"]},
            },
            "description": {"field": "tip"},
        },
    }


def timeline(rows: Sequence[Row], scale: Scale, width: int) -> Spec:
    """Requests in stages over time; rows with ``stage``, ``request``, ``start``, ``end``, ``tip``."""
    values = [{**row, "x": scale.of(row["start"]), "x2": scale.of(row["end"])} for row in rows]
    colours = sorted({int(row["request"]) for row in rows})
    place = {
        "y": _stage(),
        "x": {
            "field": "x",
            "type": "quantitative",
            "axis": _axis(scale.name, width),
            "scale": {"nice": False},
        },
        "x2": {"field": "x2"},
    }
    bars = {
        "mark": {"type": "bar", "stroke": "var(--paper)", "strokeWidth": 1},
        "encoding": {
            **place,
            "color": {
                "field": "request",
                "type": "ordinal",
                "legend": None,
                "scale": {"domain": colours, "range": [f"var(--s{n % 8})" for n in colours]},
            },
            "description": {"field": "tip"},
        },
    }
    layer: list[Spec] = [bars]
    if len({row["stage"] for row in rows}) <= LEGIBLE and width == WIDE:
        room = 0.02 * max(row["x2"] for row in values)  # for a figure on a bar
        middle = {
            "transform": [
                {"filter": f"datum.x2 - datum.x > {room!r}"},
                {"calculate": "(datum.x + datum.x2) / 2", "as": "middle"},
            ]
        }
        labels = {
            "mark": {"type": "text", "fontSize": 11},
            "encoding": {
                "y": _stage(),
                "x": {"field": "middle", "type": "quantitative"},
                "text": {"field": "request"},
                "color": {"condition": {"test": "datum.request % 8 == 4", "value": "#fff"}, "value": "#000"},
            },
        }
        layer.append({**middle, **labels})
    return {
        "width": width - 60,
        "height": {"step": 18},
        "data": {"values": _harmless(values)},
        "layer": layer,
    }


def history(rows: Sequence[Row], scale: Scale, width: int) -> Spec:
    """Best bottleneck and best bound over the seconds of the search, as steps.

    Rows have ``seconds``, ``kind`` (``"bottleneck"`` or ``"lower bound"``), ``value`` in seconds and ``tip``.
    """
    values = [{**row, "y": scale.of(row["value"])} for row in rows]
    return {
        "width": width - 70,
        "height": 220,
        "data": {"values": _harmless(values)},
        "layer": [
            {"mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2}},
            {
                "mark": {"type": "point", "filled": True, "size": 50},
                "encoding": {"description": {"field": "tip"}},
            },
        ],
        "encoding": {
            "x": {"field": "seconds", "type": "quantitative", "axis": _axis("seconds of search", width)},
            "y": {"field": "y", "type": "quantitative", "title": scale.name, "scale": {"zero": False}},
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": ["bottleneck", "lower bound"], "range": ["var(--work)", "var(--skip)"]},
            },
            "shape": {"field": "kind", "type": "nominal", "legend": None},
        },
    }


def _axis(title: str, width: int) -> Spec:
    """Return a horizontal axis whose labels do not touch."""
    return {"title": title, "tickCount": width // 85, "labelOverlap": True}


def _stage() -> Spec:
    return {"field": "stage", "type": "ordinal", "title": "stage", "axis": {"labelOverlap": True}}


def _layered(width: int, layer: list[Spec]) -> Spec:
    """Return bars, the first layer, under lines; many of them are thin."""
    many = len({row["stage"] for row in layer[0]["data"]["values"]}) > LEGIBLE
    for each in layer:
        each["data"] = {"values": _harmless(each["data"]["values"])}
    return {"width": width - 60, "height": {"step": 14 if many else 22}, "layer": layer}


def _limit(value: float, text: str) -> list[Spec]:
    """Return a vertical line with its name above."""
    data = {"values": [{"x": value, "text": text}]}
    x = {"field": "x", "type": "quantitative"}
    return [
        {
            "data": data,
            "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [5, 3]},
            "encoding": {"x": x},
        },
        {
            "data": data,
            "mark": {"type": "text", "align": "right", "dx": -4, "dy": -6, "baseline": "bottom"},
            "encoding": {"x": x, "y": {"value": 0}, "text": {"field": "text"}},
        },
    ]


def _sums(rows: Sequence[Row], key: str) -> list[float]:
    sums: dict[int, float] = {}
    for row in rows:
        sums[row["stage"]] = sums.get(row["stage"], 0.0) + row[key]
    return list(sums.values())


def _byte_unit(largest: float) -> tuple[float, str]:
    for power, name in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if largest >= 1024**power:
            return float(1024**power), name
    return 1.0, "bytes"


def _harmless(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows whose texts hold no control characters."""
    return [
        {key: printable(value) if isinstance(value, str) else value for key, value in row.items()}
        for row in rows
    ]
