"""As few slices as needed: the nodes that limit a plan are divided, and the plan is made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from onnx_pipeline.figures import format_count, format_seconds
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.model.shapes import TensorInfo
from onnx_pipeline.partition.result import PartitionResult
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.slices.costs import SliceCosts
from onnx_pipeline.slices.graphs import Shares, slice_graph
from onnx_pipeline.slices.limits import Limit, limits, own_stages
from onnx_pipeline.slices.slicing import Slicing, describe
from onnx_pipeline.slices.which import Sliceable

#: Rounds of slicing and planning.
MOST_ROUNDS = 12
#: More slices have to gain at least this share of the bottleneck.
WORTH = 0.005

#: Rounds without a gain that are borne.
PATIENCE = 3

Solve = Callable[[CostGraph], PartitionResult]


@dataclass(frozen=True)
class Round:
    """One plan: into how many parts nodes were divided, the graph with these slices, and its partition."""

    parts: Mapping[str, int]
    graph: CostGraph
    result: PartitionResult


@dataclass(frozen=True)
class SlicePlan:
    """A plan with slices, next to the one without.

    Attributes
    ----------
    rounds : tuple of Round
        The first is without slices.
    chosen : Round
        The first that no other beats by more than half a percent.
    limits : tuple of Limit
        What limits the plan without slices, the largest bound first; empty where no single node does.
    op_types : mapping of str to str
        Operators of nodes that limits may name.
    ended : str
        Why no more is sliced.
    """

    rounds: tuple[Round, ...]
    chosen: Round
    limits: tuple[Limit, ...]
    op_types: Mapping[str, str]
    ended: str

    @property
    def unsliced(self) -> PartitionResult:
        """The plan without slices."""
        return self.rounds[0].result

    @property
    def result(self) -> PartitionResult:
        """The plan; its certificate speaks of the graph with slices."""
        return self.chosen.result

    @property
    def graph(self) -> CostGraph:
        """The cost graph with slices."""
        return self.chosen.graph

    @property
    def parts(self) -> Mapping[str, int]:
        """Into how many parts nodes are divided, as :func:`onnx_pipeline.slice_model` takes it."""
        return self.chosen.parts

    @property
    def gain(self) -> float:
        """Bottleneck without slices by the one with them: 1 or more."""
        return self.unsliced.bottleneck / self.result.bottleneck if self.result.bottleneck else 1.0

    @property
    def sentence(self) -> str:
        """What limits the plan without slices, and what slicing brings, in one line."""
        if not self.limits:
            return "no single node limits the plan"
        first = self.limits[0]
        told = first.told(self.op_types.get(first.node, "one that cannot be sliced"))
        others = len(self.limits) - 1
        told += f" and {format_count(others, 'more node')}" if others else ""
        before = format_seconds(self.unsliced.bottleneck)
        if not self.parts:
            return f"{told}: {before}; {self.ended}"
        counts = sorted(set(self.parts.values()))
        what = format_count(len(self.parts), "node")
        if len(self.parts) == 1:
            (name,) = self.parts
            what = "it" if name == first.node else f"node {name!r}"
        span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        after = format_seconds(self.result.bottleneck)
        return f"{told}: {before}; slicing {what} in {span} gives {after}"


@dataclass
class _Auto:
    """The state of one search for slices."""

    graph: CostGraph
    candidates: Mapping[str, Sliceable]
    infos: Mapping[str, TensorInfo]
    shares: SliceCosts
    stages: int
    parts: dict[str, int] = field(default_factory=dict)
    known: dict[tuple[str, int], tuple[Slicing, Shares]] = field(default_factory=dict)

    @cached_property
    def whole(self) -> dict[str, int]:
        """Index of the nodes of the graph without slices."""
        return {name: v for v, name in enumerate(self.graph.node_names)}

    def slicing(self, name: str, parts: int) -> tuple[Slicing, Shares]:
        """Return how a node is divided and what that costs; asked for once."""
        if (name, parts) not in self.known:
            slicing = describe(self.candidates[name], parts, self.infos)
            self.known[name, parts] = slicing, self.shares(self.candidates[name], slicing)
        return self.known[name, parts]

    def sliced(self) -> CostGraph:
        """Return the graph with the present slices."""
        graph = self.graph
        for name in sorted(self.parts, key=self.whole.__getitem__):
            graph = slice_graph(graph, *self.slicing(name, self.parts[name]))
        return graph

    def origin(self) -> dict[str, str]:
        """Return the heavy node that every piece of the present graph is of; a Concat belongs to nobody."""
        names = {member.node.name: name for name, each in self.candidates.items() for member in each.members}
        found = {str(member): name for member, name in names.items() if name not in self.parts}
        for name, parts in self.parts.items():
            for pieces in self.slicing(name, parts)[0].pieces:
                found.update(dict.fromkeys(pieces, name))
        return found

    def most(self, name: str) -> int:
        """Into how many parts a node may be divided: more than stages cannot be used at once."""
        return min(self.candidates[name].most, self.stages)

    def finer(self, result: PartitionResult) -> str | None:
        """Divide what limits a plan into more parts; or say why that cannot be done."""
        near = limits(result)
        if not near:
            return "no single node limits it any more"
        origin = self.origin()
        chosen = {each.node: self._divisible(each, origin) for each in near}
        for each in near:
            if chosen[each.node] is None:
                name = origin.get(each.node, each.node)
                now = self.parts.get(name, 1)
                further = f" further than in {now}" if now > 1 else ""
                return f"node {name!r} limits it and cannot be sliced{further}"
        goal = self._goal(result, {name for each in near for name in each.members})
        work = dict(zip(result.graph.node_names, result.graph.work.tolist(), strict=True))
        before = dict(self.parts)
        for each in near:
            piece = chosen[each.node] or each.node
            name, now = origin[piece], before.get(origin[piece], 1)
            room = max(1, goal - (each.own - work[piece]))
            wanted = min(self.most(name), max(now + 1, -(-work[piece] * now // room)))
            self.parts[name] = max(self.parts.get(name, 1), wanted)
        return None

    def _divisible(self, limit: Limit, origin: Mapping[str, str]) -> str | None:
        """Return the heaviest node of the cheapest stage with the limit that can have more parts."""
        finer = (name for name in limit.members if name in origin)
        return next((n for n in finer if self.parts.get(origin[n], 1) < self.most(origin[n])), None)

    def _goal(self, result: PartitionResult, near: set[str]) -> int:
        """Return what the other nodes allow: the average work, or the heaviest of them."""
        graph = result.graph
        average = int(graph.work.sum()) // self.stages
        stages = own_stages(graph, result.target, average)
        return max([average, *(own for v, (own, _) in stages.items() if graph.node_names[v] not in near)])


def auto(
    graph: CostGraph,
    candidates: Mapping[str, Sliceable],
    infos: Mapping[str, TensorInfo],
    shares: SliceCosts,
    stages: int,
    solve: Solve,
    progress: Progress = silent,
) -> SlicePlan:
    """Slice as little as needed.

    In rounds: all nodes that limit the plan are divided so finely that they allow what the other nodes
    allow, and the plan is made again; until no single node limits it, or one that does cannot be divided.
    The plan without slices is one of those to choose from, so the result is never worse.

    Parameters
    ----------
    graph : CostGraph
        Of the model without slices.
    candidates : mapping of str to Sliceable
        Nodes that may be sliced.
    infos : mapping of str to TensorInfo
    shares : SliceCosts
    stages : int
    solve : callable
        Partitions a graph into ``stages``; as deterministic as this function is to be.
    progress : Progress
    """
    state = _Auto(graph, candidates, infos, shares, stages)
    rounds = [Round({}, graph, solve(graph))]
    first = tuple(limits(rounds[0].result))
    ended = f"after {MOST_ROUNDS} rounds"
    while len(rounds) <= MOST_ROUNDS:
        stop = state.finer(rounds[-1].result) if _still_helps(rounds) else "finer slices bring nothing"
        if stop is not None:
            ended = stop
            break
        progress("slices", len(rounds) / MOST_ROUNDS, format_count(len(state.parts), "node"))
        sliced = state.sliced()
        rounds.append(Round(dict(state.parts), sliced, solve(sliced)))
    best = min(each.result.bottleneck for each in rounds)
    chosen = next(each for each in rounds if each.result.bottleneck <= best * (1 + WORTH))
    members = (member.node for each in candidates.values() for member in each.members)
    op_types = {str(node.name): node.op_type for node in members}
    return SlicePlan(tuple(rounds), chosen, first, op_types, ended)


def _still_helps(rounds: list[Round]) -> bool:
    """Whether one of the last rounds was better than all before: some limits fall only together."""
    if len(rounds) <= PATIENCE:
        return True
    before = min(each.result.bottleneck for each in rounds[:-PATIENCE])
    return min(each.result.bottleneck for each in rounds[-PATIENCE:]) < before
