"""What the picture of the graph says of each layer, and where it draws it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from onnx_pipeline.figures import format_bytes, format_count, format_seconds
from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.reporting.layers import Drawing, Layer
from onnx_pipeline.reporting.layout import HEIGHT, WIDTH, Layout
from onnx_pipeline.reporting.subject import Subject

#: Characters of a name and of an operator in a box, tensors of a layer in its tooltip, and the nodes of the
#: largest graph all of whose names a search finds.
LETTERS, KIND, MOST_TENSORS, MOST_NAMES = 21, 13, 6, 20_000
#: Characters of a name in a tooltip or a table.
MOST_LETTERS = 200


@dataclass(frozen=True)
class Box:
    """One layer in the picture.

    Attributes
    ----------
    x, y : float
        Upper left corner, in points.
    title, subtitle : str
        Its two lines.
    stage : int
    seconds : float
    share : float
        Of the slowest stage's work, in [0, 1].
    lines : list of str
        Of its tooltip.
    names : list of str
        What a search finds it by, besides the beginning of its tooltip.
    after, before : list of int
        Layers that read what it makes, and that make what it reads.
    """

    x: float
    y: float
    title: str
    subtitle: str
    stage: int
    seconds: float
    share: float
    lines: list[str]
    names: list[str]
    after: list[int]
    before: list[int]


def boxes(subject: Subject, drawing: Drawing, layout: Layout) -> list[Box]:
    """Describe every layer of a drawing."""
    describe = _Describer(subject, drawing)
    return [describe.box(index, layer, layout) for index, layer in enumerate(drawing.layers)]


class _Describer:
    """Looks up what is known of layers; everything by node or layer is collected once."""

    def __init__(self, subject: Subject, drawing: Drawing) -> None:
        self.subject, self.drawing = subject, drawing
        self.graph, self.partition = drawing.partition.graph, drawing.partition
        self.parameters: list[set[int]] = [set() for _ in drawing.layers]
        for group in range(len(self.graph.group_names)):
            for v in self.graph.group_members(group):
                self.parameters[drawing.home[v]].add(group)
        self.after: list[list[int]] = [[] for _ in drawing.layers]
        self.before: list[list[int]] = [[] for _ in drawing.layers]
        for u, v in drawing.edges:
            self.after[u].append(v)
            self.before[v].append(u)
        self.most = max((cost.work for cost in self.partition.costs), default=0)

    def box(self, index: int, layer: Layer, layout: Layout) -> Box:
        """Describe one layer."""
        x, y = layout.boxes[index]
        work = sum(int(self.graph.work[v]) for v in layer.nodes)
        seconds = self.graph.seconds(work)
        kinds = self._operators(layer)
        what = _begun(kinds) if len(layer.nodes) == 1 else format_count(len(layer.nodes), "node")
        return Box(
            x - WIDTH / 2,
            y - HEIGHT / 2,
            shortened(layer.name),
            " · ".join(filter(None, (what, format_seconds(seconds)))),
            layer.stage,
            seconds,
            work / self.most if self.most else 0.0,
            [shortened(layer.name, MOST_LETTERS), *self._lines(index, layer, kinds, seconds)],
            self._names(layer),
            self.after[index],
            self.before[index],
        )

    def _lines(self, index: int, layer: Layer, kinds: str, seconds: float) -> list[str]:
        total = self.graph.seconds(self.partition.costs[layer.stage].work)
        share = f", {100 * seconds / total:.1f} % of the stage's work" if total else ""
        lines = [f"stage {layer.stage} · {kinds}" if kinds else f"stage {layer.stage}"]
        if len(layer.nodes) > 1:
            lines.append(format_count(len(layer.nodes), "node"))
        lines.append(f"work {format_seconds(seconds)}{share}")
        held = sum(int(self.graph.group_bytes[g]) for g in self.parameters[index])
        if held:
            lines.append(f"parameters {format_bytes(held)}")
        return lines + self._tensors(index, layer)

    def _tensors(self, index: int, layer: Layer) -> list[str]:
        """Lines on the tensors that enter and leave a layer."""
        graph, home = self.graph, self.drawing.home
        nets = sorted({t for v in layer.nodes for t in graph.node_nets[v]})
        made = [t for t in nets if graph.net_producer[t] != HOST and home[graph.net_producer[t]] == index]
        outside = set(nets) - set(made)
        leaving = [
            t for t in made if graph.net_to_host[t] or any(home[v] != index for v in graph.consumers(t))
        ]
        lines = []
        for label, some in (("in", sorted(outside)), ("out", leaving)):
            lines += [f"{label} {self._tensor(t)}" for t in some[:MOST_TENSORS]]
            if len(some) > MOST_TENSORS:
                lines.append(f"{label} {len(some) - MOST_TENSORS} more")
        return lines

    def _tensor(self, net: int) -> str:
        name = self.graph.net_names[net]
        kind = self.subject.types.get(name)
        size = format_bytes(int(self.graph.net_bytes[net]))
        return f"{shortened(name, MOST_LETTERS)}: {f'{kind}, {size}' if kind else size}"

    def _operators(self, layer: Layer) -> str:
        """Return the operators of a layer with their numbers, the commonest first."""
        names = [name for v in layer.nodes for name in self.graph.onnx_nodes[v]]
        known = Counter(self.subject.operators[name] for name in names if name in self.subject.operators)
        parts = [kind if times == 1 else f"{times} {kind}" for kind, times in known.most_common(4)]
        return ", ".join(parts) + (", …" if len(known) > 4 else "")

    def _names(self, layer: Layer) -> list[str]:
        """Return the names of the nodes, unless the tooltip begins with the only one."""
        told = len(layer.nodes) == 1 and len(layer.name) <= MOST_LETTERS
        if told or self.graph.num_nodes > MOST_NAMES:
            return []
        return [self.graph.node_names[v] for v in layer.nodes]


def _begun(kinds: str) -> str:
    return kinds if len(kinds) <= KIND else f"{kinds[: KIND - 1]}…"


def shortened(name: str, letters: int = LETTERS) -> str:
    """Return a name that fits a place: of a long one the end says more than the beginning."""
    return name if len(name) <= letters else f"…{name[1 - letters :]}"


def times(subject: Subject) -> dict[int, str]:
    """Return the total time of every stage as text."""
    return {
        stage["index"]: format_seconds(stage["cost"]["total_seconds"]) for stage in subject.document["stages"]
    }
