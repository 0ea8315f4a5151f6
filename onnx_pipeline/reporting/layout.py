"""Where the layers of a drawing lie: a column per stage, each arranged by Graphviz' ``dot``.

Names never reach Graphviz, which would read markup in them: it places numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnx_pipeline.reporting.layers import Drawing

#: Of a box and of what lies between columns, in points.
WIDTH, HEIGHT, GUTTER = 148, 34, 44
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
class Layout:
    """A picture in points, from its upper left corner.

    Attributes
    ----------
    width, height : float
    columns : dict of int to (float, float)
        Left side and width of each stage's column.
    boxes : list of (float, float)
        Centres.
    paths : dict
        SVG path data by edge.
    """

    width: float
    height: float
    columns: dict[int, Point]
    boxes: list[Point]
    paths: dict[Edge, str]


def arrange(drawing: Drawing) -> Layout:
    """Place every layer and every edge of a drawing."""
    members: dict[int, list[int]] = {}
    for index, layer in enumerate(drawing.layers):
        members.setdefault(layer.stage, []).append(index)
    boxes: list[Point] = [(0.0, 0.0)] * len(drawing.layers)
    paths: dict[Edge, str] = {}
    columns: dict[int, Point] = {}
    stage_of = [layer.stage for layer in drawing.layers]
    top = HEADING + LANE * MOST_LANES
    left, height = float(GUTTER), 0.0
    for stage, inside in sorted(members.items()):
        edges = [(u, v) for u, v in drawing.edges if stage_of[u] == stage_of[v] == stage]
        wide, tall, places, curves = _dot(inside, edges)
        for index, (x, y) in places.items():
            boxes[index] = (left + x, top + y)
        for edge, points in curves.items():
            paths[edge] = _curve([(left + x, top + y) for x, y in points])
        columns[stage] = (left, wide)
        left, height = left + wide + GUTTER, max(height, top + tall)
    crossing = [edge for edge in drawing.edges if stage_of[edge[0]] != stage_of[edge[1]]]
    for number, edge in enumerate(crossing):
        paths[edge] = _across(edge, number, stage_of, columns, boxes)
    return Layout(left, height + HEIGHT / 2, columns, boxes, paths)


def _dot(
    inside: Sequence[int], edges: Iterable[Edge]
) -> tuple[float, float, dict[int, Point], dict[Edge, list[Point]]]:
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
    curves = {
        (int(edge[0]), int(edge[1])): [point(part) for part in edge.attr["pos"].split()]
        for edge in graph.edges()
    }
    return width, height, places, curves


def _curve(points: Sequence[Point]) -> str:
    """Return the SVG path of Graphviz' Bézier curve."""
    start, *rest = (f"{x:.0f},{y:.0f}" for x, y in points)
    return f"M{start}C{' '.join(rest)}"


def _across(
    edge: Edge, number: int, stage_of: Sequence[int], columns: dict[int, Point], boxes: Sequence[Point]
) -> str:
    """Lead an edge between stages between the rows of boxes and the columns, above those that it skips."""
    (x, y), (to_x, to_y) = (boxes[v] for v in edge)
    order = sorted(columns)
    first, last = (order.index(stage_of[v]) for v in edge)
    shift = LANE * (number % MOST_LANES)
    left, wide = columns[order[first]]
    path = f"M{x:.0f},{y + HEIGHT / 2:.0f}v{GAP}H{left + wide + 6 + shift:.0f}"
    if last > first + 1:
        back = columns[order[last]][0] - GUTTER + 6 + shift
        path += f"V{HEADING - LANE + shift:.0f}H{back:.0f}"
    return f"{path}V{to_y - HEIGHT / 2 - GAP:.0f}H{to_x:.0f}v{GAP}"
