"""What a provider holds of each parameter: the weights of the saved optimised model.

onnxruntime folds, converts and rearranges weights when it loads a model: float16 weights become float32 where
a provider has no float16 kernels, blocked convolutions round channels up, normalisations disappear into
convolutions. Packing that a kernel does on its own is not in the saved model and not counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from onnx_pipeline.costmodel.profiling.mapping import Attribution, GraphNode


def held_bytes(
    kernels: Sequence[GraphNode],
    nodes: Sequence[GraphNode],
    mapping: Attribution,
    saved: Mapping[str, int],
    parameters: Mapping[str, str],
    original: Mapping[str, int],
) -> dict[str, int]:
    """Return the bytes that are held for every parameter whose size in the session differs.

    Parameters
    ----------
    kernels, nodes : sequence of GraphNode
        Of the saved and of the original model.
    mapping : Attribution
        Which kernels stand for which nodes.
    saved : mapping of str to int
        Bytes of the saved model's weights by name.
    parameters : mapping of str to str
        Parameter group of every weight that a node of the original model reads, by the names of both.
    original : mapping of str to int
        Bytes of the groups.

    Returns
    -------
    dict of str to int
        A weight that kept its name has the bytes it has in the saved model. New weights belong to the
        parameters that their kernels' original nodes read and that are gone, in proportion to their sizes.
    """
    found = {name: saved[name] for name, size in original.items() if saved.get(name, size) != size}
    fresh: dict[int, int] = defaultdict(int)
    seen: set[str] = set()
    for kernel, group in zip(kernels, mapping.group.tolist(), strict=True):
        for name in kernel.reads:
            if name in saved and name not in original and name not in seen:
                seen.add(name)
                fresh[group] += saved[name]
    gone: dict[int, dict[str, int]] = defaultdict(dict)
    placed: set[str] = set()
    for group, node in sorted(zip(mapping.member_group.tolist(), mapping.member_node.tolist(), strict=True)):
        for name in (parameters[value] for value in nodes[node].reads if value in parameters):
            if name not in saved and name not in placed:
                placed.add(name)
                gone[group][name] = original[name]
    for group, sizes in gone.items():
        total = sum(sizes.values())
        for name, size in sizes.items():
            held = fresh[group] * size // total if total else 0
            if held != size:
                found[name] = held
    return found
