"""Build cost graphs piece by piece, checked once at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.figures import format_bytes
from onnx_pipeline.graph.costgraph import HOST, CostGraph, TensorType, topological_order
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.graph.ticks import NS, IntArray, choose_ticks, whole

#: Bytes of everything together stay below: sums of them fit into 64 bits.
MOST_BYTES = 1 << 60


@dataclass
class GraphBuilder:
    """Collects nodes, nets and parameter groups and checks them once, in :meth:`build`.

    Parameters
    ----------
    name : str
        Of the graph.
    source : str, optional
        File to name in errors.
    meta : dict
        Provenance.
    ticks_per_second : int, optional
        How finely the graph counts times; by default so that all work together takes 7e12 to 7e13 ticks.

    Examples
    --------
    >>> b = GraphBuilder("tiny")
    >>> x, y = b.add_node("x", 10), b.add_node("y", 20)
    >>> _ = b.add_net("t", x, [y], nbytes=4)
    >>> b.build().num_nodes
    2
    """

    name: str
    source: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    ticks_per_second: int | None = None
    _nodes: list[tuple[str, float, int, int, tuple[str, ...]]] = field(default_factory=list)
    _nets: list[tuple[str, int, int, bool, list[int], float | None]] = field(default_factory=list)
    _extra: list[float] = field(default_factory=list)
    _types: list[TensorType] = field(default_factory=list)
    _groups: list[tuple[str, int, list[int]]] = field(default_factory=list)
    _work_on: list[Mapping[str, float]] = field(default_factory=list)
    _operators: list[str] = field(default_factory=list)

    def add_node(
        self,
        name: str,
        work: float,
        *,
        colocation: int = -1,
        pinned: int = -1,
        onnx_nodes: Sequence[str] | None = None,
        work_on: Mapping[str, float] | None = None,
        operator: str = "",
    ) -> int:
        """Add a node with ``work`` nanoseconds, whole or not; return its index.

        ``work_on`` has its work by kind of device, infinite where a kind cannot run it; all nodes name the
        same kinds. ``operator`` is its type, where known.

        Raises
        ------
        InputError
            If something is of the wrong type; ranges are checked in the end.
        """
        self._check_name("node", name)
        self._check(f"the work of node {name!r}", work, Real)
        self._check(f"the colocation of node {name!r}", colocation, Integral)
        self._check(f"the pin of node {name!r}", pinned, Integral)
        for kind, time in (work_on or {}).items():
            self._check(f"the work of node {name!r} on {kind!r}", time, Real)
        members = tuple(onnx_nodes if onnx_nodes is not None else (name,))
        self._work_on.append(dict(work_on or {}))
        self._operators.append(operator)
        self._nodes.append((name, work, colocation, pinned, members))
        return len(self._nodes) - 1

    def __len__(self) -> int:
        """Number of nodes added so far."""
        return len(self._nodes)

    def node_name(self, node: int) -> str:
        """Name of an added node."""
        return self._nodes[node][0]

    def add_net(
        self,
        name: str,
        producer: int,
        consumers: Sequence[int],
        *,
        nbytes: int,
        to_host: bool = False,
        time: float | None = None,
        extra: float = 0,
        kind: TensorType = (None, None),
    ) -> int:
        """Add a tensor produced by ``producer`` (or ``HOST``); return its index.

        ``time`` nanoseconds replace what a target charges for ``nbytes``; ``extra`` ones come on top.
        ``kind`` is its element type and concrete shape, where known.

        Raises
        ------
        InputError
            If something is of the wrong type; ranges are checked in the end.
        """
        self._check_name("tensor", name)
        for label, value, number in (
            ("producer", producer, Integral),
            ("size", nbytes, Integral),
            ("time", 0 if time is None else time, Real),
            ("border cost", extra, Real),
        ):
            self._check(f"the {label} of tensor {name!r}", value, number)
        for v in consumers:
            self._check(f"a consumer of tensor {name!r}", v, Integral)
        self._extra.append(extra)
        self._types.append(kind)
        self._nets.append((name, producer, nbytes, to_host, sorted(set(consumers)), time))
        return len(self._nets) - 1

    def add_group(self, name: str, nbytes: int, nodes: Sequence[int]) -> int:
        """Add a parameter group read by ``nodes``; return its index.

        Raises
        ------
        InputError
            If something is of the wrong type; ranges are checked in the end.
        """
        self._check_name("parameter group", name)
        self._check(f"the size of parameter group {name!r}", nbytes, Integral)
        for v in nodes:
            self._check(f"a user of parameter group {name!r}", v, Integral)
        self._groups.append((name, nbytes, sorted(set(nodes))))
        return len(self._groups) - 1

    def _check_name(self, what: str, name: Any) -> None:
        if not isinstance(name, str):
            raise InputError(self.source, f"the name of a {what} must be text, got {name!r}")

    def _check(self, what: str, value: Any, kind: type) -> None:
        if isinstance(value, bool) or not isinstance(value, kind):
            number = "a whole number" if kind is Integral else "a number"
            raise InputError(self.source, f"{what} must be {number}, got {value!r}")

    def build(self) -> CostGraph:
        """Check and freeze.

        Raises
        ------
        InputError
            If a cost is negative, not finite or too much to be counted, a name repeats, an index is out of
            range or the graph has a cycle.
        """
        n = len(self._nodes)
        seen: set[str] = set()
        for name, work, *_ in self._nodes:
            if name in seen:
                raise InputError(self.source, f"two nodes are called {name!r}")
            seen.add(name)
            if not 0 <= work < math.inf:
                raise InputError(self.source, f"node {name!r} has negative or infinite work: {work!r}")
        for (name, *_), on in zip(self._nodes, self._work_on, strict=True):
            if on.keys() != self._work_on[0].keys():
                raise InputError(
                    self.source, f"node {name!r} has times of other kinds of device than the first"
                )
            if not all(work >= 0 for work in on.values()):
                raise InputError(self.source, f"node {name!r} has negative work on a kind of device")
        for name, producer, nbytes, _, consumers, time in self._nets:
            if nbytes < 0 or not (time is None or 0 <= time < math.inf):
                raise InputError(self.source, f"tensor {name!r} has a negative or infinite cost")
            for v in (producer, *consumers):
                if not HOST <= v < n:
                    raise InputError(self.source, f"tensor {name!r} refers to a node that does not exist")
            if HOST in consumers:
                raise InputError(self.source, f"tensor {name!r} has a consumer that is not a node")
        for name, nbytes, nodes in self._groups:
            if nbytes < 0:
                raise InputError(self.source, f"parameter group {name!r} has a negative size")
            if nodes and not 0 <= nodes[0] <= nodes[-1] < n:
                raise InputError(
                    self.source, f"parameter group {name!r} refers to a node that does not exist"
                )
        if not all(0 <= extra < math.inf for extra in self._extra):
            raise InputError(self.source, "a tensor has a negative or infinite border cost")
        if sum(net[2] for net in self._nets) + sum(group[1] for group in self._groups) > MOST_BYTES:
            raise InputError(self.source, f"tensors and parameters hold more than {format_bytes(MOST_BYTES)}")
        times = [t[5] for t in self._nets]
        timed = any(t is not None for t in times)
        if timed and None in times:
            raise InputError(self.source, "either every tensor has a transfer time or none has")
        try:
            graph = self._freeze(times if timed else None)
        except UsageError as error:
            raise InputError(self.source, str(error)) from None
        topological_order(graph, source=self.source)
        return graph

    def _freeze(self, times: Sequence[float | None] | None) -> CostGraph:
        works = [x[1] for x in self._nodes]
        columns = {kind: [on[kind] for on in self._work_on] for kind in (self._work_on or [{}])[0]}
        longest = max(math.fsum(x for x in each if x < math.inf) for each in (works, *columns.values()))
        tick = self.ticks_per_second or choose_ticks(longest / NS)

        def ticks(nanoseconds: Sequence[float | None]) -> IntArray:
            return whole([(x or 0) * (tick / NS) for x in nanoseconds])

        def runnable(works: list[float]) -> IntArray:
            finite = [work if work < math.inf else 0 for work in works]
            return np.where(np.isinf(works), INFEASIBLE, ticks(finite))

        return CostGraph(
            name=self.name,
            node_names=tuple(x[0] for x in self._nodes),
            work=ticks(works),
            net_names=tuple(x[0] for x in self._nets),
            net_producer=_ints([x[1] for x in self._nets]),
            net_bytes=_ints([x[2] for x in self._nets]),
            net_to_host=np.array([x[3] for x in self._nets], dtype=np.bool_),
            net_ptr=_offsets([x[4] for x in self._nets]),
            net_consumers=_ints([v for x in self._nets for v in x[4]]),
            net_time=None if times is None else ticks(times),
            group_names=tuple(x[0] for x in self._groups),
            group_bytes=_ints([x[1] for x in self._groups]),
            group_ptr=_offsets([x[2] for x in self._groups]),
            group_nodes=_ints([v for x in self._groups for v in x[2]]),
            colocation=_ints([x[2] for x in self._nodes]),
            pinned=_ints([x[3] for x in self._nodes]),
            onnx_nodes=tuple(x[4] for x in self._nodes),
            meta=dict(self.meta),
            net_extra=ticks(self._extra) if any(self._extra) else None,
            ticks_per_second=tick,
            net_types=tuple(self._types) if any(kind != (None, None) for kind in self._types) else None,
            work_on={kind: runnable(column) for kind, column in columns.items()} or None,
            operators=tuple(self._operators) if any(self._operators) else None,
        )


def _ints(values: Sequence[int]) -> IntArray:
    return np.array(values, dtype=np.int64)


def _offsets(lists: Sequence[Sequence[int]]) -> IntArray:
    return np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64)
