"""Where the layers of a drawing lie: a column per stage, each arranged by Graphviz' ``dot``.

Names never reach Graphviz, which would read markup in them: it places numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnx_pipeline.reporting.layers import Drawing

#: Of a box and of what lies between columns, in points.
WIDTH, HEIGHT, GUTTER = 160, 34, 44
#: Above the columns: their headings, and lanes of tensors that skip stages.
HEADING, LANE, MOST_LANES = 46, 4, 8
_INCH = 72
#: Below and above boxes, where edges between columns run.
GAP = 7
#: Rounds of dot's network simplex, as a share of the nodes; unlimited ones take minutes on wide graphs.
_ROUNDS = 1

Point = tuple[float, float]
Edge = tuple[int, int]


@dataclass(frozen=True)
class Column:
    """A stage's place in the picture."""

    stage: int
    left: float
    width: float


@dataclass(frozen=True)
class Curve:
    """An edge: SVG path data, and how many columns on it ends."""

    path: str
    columns: int


@dataclass(frozen=True)
class Layout:
    """A picture in points, from its upper left corner.

    Attributes
    ----------
    width, height : float
    columns : list of Column
        From left to right.
    boxes : list of (float, float)
        Centres of the layers.
    curves : list of Curve
    """

    width: float
    height: float
    columns: list[Column]
    boxes: list[Point]
    curves: list[Curve]


def arrange(drawing: Drawing) -> Layout:
    """Place every layer and every edge of a drawing."""
    members: dict[int, list[int]] = {}
    for index, layer in enumerate(drawing.layers):
        members.setdefault(layer.stage, []).append(index)
    rank = {stage: at for at, stage in enumerate(sorted(members))}
    home = [rank[layer.stage] for layer in drawing.layers]
    spans = {(u, v): home[v] - home[u] for u, v in drawing.edges}
    top = HEADING + LANE * MOST_LANES * any(span > 1 for span in spans.values())
    left, height = float(GUTTER), 0.0
    boxes: list[Point] = [(0.0, 0.0)] * len(drawing.layers)
    columns: list[Column] = []
    curves: list[Curve] = []
    for stage, inside in sorted(members.items()):
        own = [edge for edge, span in spans.items() if span == 0 and home[edge[0]] == rank[stage]]
        wide, tall, places, found = _dot(inside, own)
        for index, (x, y) in places.items():
            boxes[index] = (left + x, top + y)
        curves += [Curve(_curve([(left + x, top + y) for x, y in points]), 0) for points in found]
        columns.append(Column(stage, left, wide))
        left, height = left + wide + GUTTER, max(height, top + tall)
    for number, (edge, span) in enumerate((edge, span) for edge, span in spans.items() if span):
        first, last = columns[home[edge[0]]], columns[home[edge[1]]]
        path = _across(boxes[edge[0]], boxes[edge[1]], first, last if span > 1 else None, number)
        curves.append(Curve(path, span))
    return Layout(left, height + HEIGHT / 2, columns, boxes, curves)


def _dot(
    inside: Sequence[int], edges: Iterable[Edge]
) -> tuple[float, float, dict[int, Point], list[list[Point]]]:
    """Return width and height of a column, its boxes and the control points of its edges."""
    import pygraphviz

    graph = pygraphviz.AGraph(
        directed=True, nodesep=0.15, ranksep=0.25, splines="polyline", nslimit=_ROUNDS, nslimit1=_ROUNDS
    )
    graph.node_attr.update(shape="box", fixedsize=True, label="", width=WIDTH / _INCH, height=HEIGHT / _INCH)
    graph.edge_attr.update(arrowhead="none")
    graph.add_nodes_from(inside)
    graph.add_edges_from(edges)
    graph.layout(prog="dot")
    _, _, width, height = map(float, graph.graph_attr["bb"].split(","))

    def point(text: str) -> Point:
        x, y = map(float, text.split(","))
        return x, height - y

    places = {v: point(graph.get_node(v).attr["pos"]) for v in inside}
    curves = [[point(part) for part in edge.attr["pos"].split()] for edge in graph.edges()]
    return width, height, places, curves


def _curve(points: Sequence[Point]) -> str:
    """Return the SVG path of Graphviz' Bézier curve."""
    start, *rest = (f"{x:.0f},{y:.0f}" for x, y in points)
    return f"M{start}C{' '.join(rest)}"


def _across(start: Point, end: Point, first: Column, skipped_to: Column | None, number: int) -> str:
    """Lead an edge to another column, between the rows of boxes and above the columns that it skips."""
    shift = LANE * (number % MOST_LANES)
    (x, y), (to_x, to_y) = start, end
    path = f"M{x:.0f},{y + HEIGHT / 2:.0f}v{GAP}H{first.left + first.width + 6 + shift:.0f}"
    if skipped_to is not None:
        path += f"V{HEADING - GAP + shift}H{skipped_to.left - GUTTER + 6 + shift:.0f}"
    return f"{path}V{to_y - HEIGHT / 2 - GAP:.0f}H{to_x:.0f}v{GAP}"
