"""One node in parts, as plain data: names, borders and weights, the same for models and for cost graphs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from onnx_pipeline.model.roles import parameter_root
from onnx_pipeline.model.shapes import TensorInfo
from onnx_pipeline.slices.which import Sliceable


class CutGroup(NamedTuple):
    """A parameter group of which every slice has a part.

    ``name`` is that of the whole; ``member`` the number of the node that reads it; ``parts`` the names of
    its parts.
    """

    name: str
    member: int
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Slicing:
    """How a node, and what follows its slices, is divided.

    Attributes
    ----------
    node : str
        The heavy node.
    op_type : str
    borders : tuple of int
        Where parts begin and end among the columns or channels.
    members : tuple of str
        Nodes that are divided, the heavy one first.
    outputs : tuple of str
        The value that each of them makes.
    pieces, values : tuple of tuple of str
        For every part the nodes that replace ``members``, and what they make.
    joined : str
        The Concat that makes the last of ``outputs`` again.
    groups : tuple of CutGroup
    """

    node: str
    op_type: str
    borders: tuple[int, ...]
    members: tuple[str, ...]
    outputs: tuple[str, ...]
    pieces: tuple[tuple[str, ...], ...]
    values: tuple[tuple[str, ...], ...]
    joined: str
    groups: tuple[CutGroup, ...]

    @property
    def parts(self) -> int:
        """Number of parts."""
        return len(self.pieces)

    @property
    def size(self) -> int:
        """Columns or channels in all."""
        return self.borders[-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns or channels of every part."""
        return tuple(end - begin for begin, end in itertools.pairwise(self.borders))

    @property
    def result(self) -> str:
        """The value that is joined."""
        return self.outputs[-1]


def cut_name(name: str, axis: int, begin: int, end: int) -> str:
    """Return the name of a part of a weight, as numpy writes it: ``fc.weight[:, 0:256]``."""
    return f"{name}[{':, ' * axis}{begin}:{end}]"


def describe(sliceable: Sliceable, parts: int, infos: Mapping[str, TensorInfo]) -> Slicing:
    """Return how a node is divided into so many parts.

    Raises
    ------
    UsageError
        If it cannot be divided into so many.
    """
    borders = sliceable.borders(parts)
    nodes = [member.node for member in sliceable.members]
    members = tuple(str(node.name) for node in nodes)
    outputs = tuple(str(node.outputs[0].name) for node in nodes)
    numbered = [[f"{name}/slice_{part}" for name in members] for part in range(parts)]
    values = [[f"{name}/slice_{part}" for name in outputs] for part in range(parts)]
    return Slicing(
        node=members[0],
        op_type=nodes[0].op_type,
        borders=borders,
        members=members,
        outputs=outputs,
        pieces=tuple(map(tuple, numbered)),
        values=tuple(map(tuple, values)),
        joined=f"{members[0]}/concat",
        groups=tuple(_groups(sliceable, borders, infos)),
    )


def _groups(sliceable: Sliceable, borders: Sequence[int], infos: Mapping[str, TensorInfo]) -> list[CutGroup]:
    groups: dict[tuple[str, int], CutGroup] = {}
    for number, member in enumerate(sliceable.members):
        for index, axis in member.cuts.items():
            value = member.node.inputs[index]
            if value is None:
                continue
            root = str(parameter_root(value).name)
            ranges = itertools.pairwise(borders)
            names = tuple(cut_name(root, axis, begin, end) for begin, end in ranges)
            groups[root, number] = CutGroup(root, number, names)
    return list(groups.values())
