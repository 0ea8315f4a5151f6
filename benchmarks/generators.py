"""Synthetic cost graphs: random layered DAGs, NASNet-like cells and transformers.

All are seeded; work is in nanoseconds and sizes are chosen so that at 1 GB/s a tensor costs a few percent to
a few times the work of its producer (``io``).
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph


def layered(nodes: int, width: int, seed: int = 0, io: float = 0.3) -> CostGraph:
    """Random layered DAG: every node reads one to three tensors of the last few layers."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"layered-{nodes}-w{width}")
    readers: list[list[int]] = []
    layer = 0
    starts = [0]
    while len(readers) < nodes:
        size = min(int(rng.integers(max(1, width // 2), width + 1)), nodes - len(readers))
        first = len(readers)
        for _ in range(size):
            v = b.add_node(f"n{len(readers)}", int(rng.lognormal(10, 1.0)))
            readers.append([])
            for _ in range(int(rng.integers(1, 4)) if layer else 0):
                back = int(min(layer, rng.geometric(0.7)))
                low, high = starts[layer - back], starts[layer - back + 1]
                readers[int(rng.integers(low, high))].append(v)
        starts.append(first + size)
        layer += 1
    for u, vs in enumerate(readers):
        b.add_net(f"t{u}", u, vs, nbytes=int(io * rng.lognormal(10, 1.0)), to_host=not vs)
    return b.build()


def nasnet(cells: int = 18, blocks: int = 5, seed: int = 0, io: float = 0.3) -> CostGraph:
    """NASNet-like cells: each block adds two of eight operator chains over the two previous cells."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"nasnet-{cells}x{blocks}")
    readers: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    count = 0

    def node(work: float, inputs: list[int], size: float) -> int:
        nonlocal count
        v = b.add_node(f"n{count}", int(work * rng.uniform(0.7, 1.4)))
        count += 1
        readers[v], sizes[v] = [], int(size)
        for u in inputs:
            readers[u].append(v)
        return v

    base = 30_000.0
    before = last = node(base, [], io * base)
    for c in range(cells):
        scale = base * 0.5 ** (c * 3 // cells) * 2
        size = io * base * 0.5 ** (c * 3 // cells)
        states = [node(scale * 0.3, [before], size), node(scale * 0.3, [last], size)]
        used: set[int] = set()
        for _ in range(blocks):
            ends = []
            for _ in range(2):
                start = int(rng.integers(0, len(states)))
                used.add(start)
                v = states[start]
                for _ in range(int(rng.integers(1, 5))):
                    v = node(scale * float(rng.choice([0.2, 1.0, 1.6])), [v], size)
                ends.append(v)
            states.append(node(scale * 0.1, ends, size))
        free = [s for i, s in enumerate(states) if i not in used] or [states[-1]]
        before, last = last, node(scale * 0.15, free, size * len(free))
    for u, vs in readers.items():
        b.add_net(f"t{u}", u, vs, nbytes=sizes[u], to_host=u == last)
    return b.build()


def transformer(nodes: int, seed: int = 0, io: float = 0.1) -> CostGraph:
    """Decoder of identical layers at operator level (21 nodes each), with a mask that every layer reads."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"transformer-{nodes}")
    mask_readers: list[int] = []
    net = 0

    def link(u: int, vs: list[int], size: float, host: bool = False) -> None:
        nonlocal net
        b.add_net(f"t{net}", u, vs, nbytes=int(size), to_host=host)
        net += 1

    def node(work: float) -> int:
        return b.add_node(f"n{len(b)}", int(work * rng.uniform(0.9, 1.1)))

    unit = 20_000.0
    x = node(unit)
    while len(b) + 21 < nodes:
        norm = node(unit * 0.1)
        q, k, v = (node(unit) for _ in range(3))
        heads = [node(unit * 0.05) for _ in range(3)]
        scores, masked, soft, mixed, merged = (
            node(unit * 0.6),
            node(unit * 0.05),
            node(unit * 0.1),
            node(unit * 0.6),
            node(unit * 0.05),
        )
        proj, add, norm2, up, act, down, add2, bias, scale = (
            node(unit * w) for w in (1, 0.05, 0.1, 4, 0.3, 4, 0.05, 0.05, 0.05)
        )
        link(x, [norm, add], io * unit)
        link(norm, [q, k, v], io * unit)
        for a, h in zip((q, k, v), heads, strict=True):
            link(a, [h], io * unit)
        link(heads[0], [scores], io * unit)
        link(heads[1], [scores], io * unit)
        link(heads[2], [mixed], io * unit)
        link(scores, [masked], io * unit * 2)
        mask_readers.append(masked)
        for chain, size in (
            ((masked, soft), 2.0),
            ((soft, mixed), 2.0),
            ((mixed, merged), 1.0),
            ((merged, proj), 1.0),
            ((proj, add), 1.0),
        ):
            link(chain[0], [chain[1]], io * unit * size)
        link(add, [norm2, add2], io * unit)
        for a, c, size in (
            (norm2, up, 1.0),
            (up, bias, 4.0),
            (bias, act, 4.0),
            (act, down, 4.0),
            (down, scale, 1.0),
            (scale, add2, 1.0),
        ):
            link(a, [c], io * unit * size)
        x = add2
    b.add_net("mask", HOST, mask_readers, nbytes=int(io * unit / 4))
    link(x, [], io * unit, host=True)
    return b.build()
