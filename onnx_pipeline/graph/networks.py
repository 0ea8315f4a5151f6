"""Cost graphs as networkx graphs, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NoReturn

from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph, TensorType
from onnx_pipeline.graph.ticks import NS, TICKS

if TYPE_CHECKING:
    import networkx

Attributes = Mapping[str, Any]


def to_networkx(graph: CostGraph) -> networkx.MultiDiGraph:
    """Return the graph as :meth:`CostGraph.to_networkx` describes it."""
    import networkx

    out = networkx.MultiDiGraph(
        name=graph.name, meta=dict(graph.meta), ticks_per_second=graph.ticks_per_second, tensors=[]
    )
    for v, name in enumerate(graph.node_names):
        out.add_node(name, work=graph.seconds(int(graph.work[v])), onnx_nodes=graph.onnx_nodes[v])
        for key, value in (("colocation", graph.colocation[v]), ("stage", graph.pinned[v])):
            if value >= 0:
                out.nodes[name][key] = int(value)
    for t, tensor in enumerate(graph.net_names):
        producer, readers = int(graph.net_producer[t]), [graph.node_names[v] for v in graph.consumers(t)]
        home = None if producer == HOST else graph.node_names[producer]
        entry = {"tensor": tensor, "bytes": int(graph.net_bytes[t]), "index": t, **_further(graph, t)}
        if home is None or not readers:
            out.graph["tensors"].append({"producer": home, "consumers": readers, **entry})
        else:
            out.add_edges_from((home, reader, tensor, entry.copy()) for reader in readers)
    out.graph["parameters"] = [
        {
            "name": name,
            "bytes": int(graph.group_bytes[g]),
            "nodes": [graph.node_names[v] for v in graph.group_members(g)],
        }
        for g, name in enumerate(graph.group_names)
    ]
    return out


def _further(graph: CostGraph, net: int) -> dict[str, Any]:
    """Return what few tensors have."""
    further: dict[str, Any] = {"to_host": True} if graph.net_to_host[net] else {}
    if graph.net_types is not None:
        further |= dict(zip(("dtype", "shape"), graph.net_types[net], strict=True))
    if graph.net_time is not None:
        further["time"] = graph.seconds(int(graph.net_time[net]))
    if graph.net_extra is not None and graph.net_extra[net]:
        further["border"] = graph.seconds(int(graph.net_extra[net]))
    return further


def from_networkx(
    graph: networkx.DiGraph,
    *,
    work: str = "work",
    bytes: str = "bytes",
    tensor: str = "tensor",
    parameters: str = "parameter_bytes",
) -> CostGraph:
    """Return the cost graph of a networkx graph; see :meth:`CostGraph.from_networkx`."""
    if not hasattr(graph, "is_directed") or not graph.is_directed():
        kind = type(graph).__name__
        raise InputError(None, f"expected a directed graph of networkx, got {kind}", "make it a DiGraph")
    about = graph.graph
    ticks = about.get("ticks_per_second")
    if ticks is not None and ticks not in TICKS:
        _fail("the graph", "ticks_per_second", "a power of ten", ticks)
    builder = GraphBuilder(str(about.get("name", "")), None, dict(about.get("meta", {})), ticks)
    index = _add_nodes(builder, graph, work, parameters)
    for net in _tensors(graph, index, bytes, tensor):
        builder.add_net(**net)
    for place, entry in _listed(about, "parameters"):
        users = [_node(name, place, index) for name in entry.get("nodes", ())]
        builder.add_group(str(entry.get("name", place)), _size(entry, "bytes", place), users)
    return builder.build()


def _add_nodes(builder: GraphBuilder, graph: networkx.DiGraph, work: str, parameters: str) -> dict[Any, int]:
    """Add every node with its own parameters; return their indices by node of networkx."""
    index: dict[Any, int] = {}
    for node, data in graph.nodes(data=True):
        place = f"node {str(node)!r}"
        members = data.get("onnx_nodes")
        index[node] = builder.add_node(
            str(node),
            _seconds(data, work, place) * NS,
            colocation=_whole(data, "colocation", place, -1),
            pinned=_whole(data, "stage", place, -1),
            onnx_nodes=None if members is None else [str(name) for name in members],
        )
        if parameters in data:
            builder.add_group(f"parameters of {node}", _size(data, parameters, place), [index[node]])
    return index


def _tensors(
    graph: networkx.DiGraph, index: Mapping[Any, int], bytes: str, tensor: str
) -> Iterator[dict[str, Any]]:
    """Yield the arguments of ``add_net``: edges of one producer and tensor name together, in their order."""
    nets: dict[Any, dict[str, Any]] = {}
    order: dict[Any, float] = {}
    for u, v, data in graph.edges(data=True):
        place = f"edge {str(u)!r} -> {str(v)!r}"
        named = data.get(tensor) is not None
        name = str(data[tensor]) if named else f"{u} -> {v}"
        key = (u, name) if named else (u, v, len(nets))
        net = _net(data, bytes, place)
        known = nets.setdefault(key, {"name": name, "producer": index[u], "consumers": [], **net})
        for field, value in net.items():
            if known[field] != value:
                what = bytes if field == "nbytes" else field
                other = f"{known[field]} on another edge of {name!r}"
                raise InputError(None, f"{place}: attribute {what!r} is {value}, {other}")
        known["consumers"].append(index[v])
        order.setdefault(key, _whole(data, "index", place, len(order)))
    for place, entry in _listed(graph.graph, "tensors"):
        producer, name = entry.get("producer"), str(entry.get("tensor", place))
        nets[place] = {
            "name": name,
            "producer": HOST if producer is None else _node(producer, place, index),
            "consumers": [_node(each, place, index) for each in entry.get("consumers", ())],
            **_net(entry, "bytes", place),
        }
        order[place] = _whole(entry, "index", place, len(order))
    yield from (nets[key] for key in sorted(nets, key=order.__getitem__))


def _net(data: Attributes, bytes: str, place: str) -> dict[str, Any]:
    """Read what all edges of a tensor have in common."""
    return {
        "nbytes": _size(data, bytes, place),
        "to_host": bool(data.get("to_host", False)),
        "time": _seconds(data, "time", place) * NS if "time" in data else None,
        "extra": _seconds(data, "border", place) * NS if "border" in data else 0,
        "kind": _kind(data, place),
    }


def _kind(data: Attributes, place: str) -> TensorType:
    """Read element type and shape; both may be missing."""
    dtype, shape = data.get("dtype"), data.get("shape")
    if not (dtype is None or isinstance(dtype, str)):
        _fail(place, "dtype", "text", dtype)
    if shape is None:
        return dtype, None
    if not isinstance(shape, list | tuple) or not all(isinstance(size, int) and size >= 0 for size in shape):
        _fail(place, "shape", "a sequence of sizes", shape)
    return dtype, tuple(shape)


def _listed(about: Attributes, key: str) -> Iterator[tuple[str, Attributes]]:
    """Yield the entries of a list that belongs to the graph, with their places."""
    entries = about.get(key, ())
    if not isinstance(entries, list | tuple) or not all(isinstance(each, Mapping) for each in entries):
        _fail("the graph", key, "a list of dictionaries", entries)
    yield from ((f"{key}[{i}] of the graph", entry) for i, entry in enumerate(entries))


def _node(name: Any, place: str, index: Mapping[Any, int]) -> int:
    if name not in index:
        raise InputError(None, f"{place}: there is no node {name!r}")
    return index[name]


def _seconds(data: Attributes, key: str, place: str) -> float:
    return float(_number(data, key, place, "a finite number of seconds >= 0", lambda x: 0 <= x < math.inf))


def _size(data: Attributes, key: str, place: str) -> int:
    return int(_number(data, key, place, "a whole number of bytes >= 0", lambda x: x >= 0 and x == x // 1))


def _whole(data: Attributes, key: str, place: str, default: int) -> int:
    if data.get(key) is None:
        return default

    def good(value: Any) -> bool:
        return isinstance(value, Integral) and int(value) >= 0

    return int(_number(data, key, place, "a whole number >= 0", good))


def _number(data: Attributes, key: str, place: str, what: str, good: Callable[[Any], bool]) -> Any:
    """Return a number, one of numpy's too, if it is as it should be."""
    if key not in data:
        raise InputError(None, f"{place} has no attribute {key!r}", f"set it to {what}")
    value = data[key]
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or not good(value):
        _fail(place, key, what, value)
    return value


def _fail(place: str, key: str, what: str, value: Any) -> NoReturn:
    raise InputError(None, f"{place}: attribute {key!r} must be {what}, got {value!r}")
