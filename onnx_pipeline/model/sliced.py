"""Slices of weights: a byte range of the original's file where the layout allows, else read piece by piece.

Nothing is read before a slice is written or asked for, and then a few mebibytes at a time: the weights of a
model whose nodes are sliced are never in memory twice, nor at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_pipeline.errors import InputError
from onnx_pipeline.model.external import Stamp, stamp

#: Bytes of the original that are in memory at a time.
_BLOCK = 1 << 22


class SlicedTensor(ir.LazyTensor):
    """Some rows or columns of a tensor, read when they are needed.

    Parameters
    ----------
    base : onnx_ir.TensorProtocol
        The whole tensor; its elements take whole bytes.
    axis : int
    begin, end : int
        Range of indices along ``axis``.
    name : str

    Attributes
    ----------
    base, axis, begin, end
        As given.
    """

    def __init__(self, base: ir.TensorProtocol, axis: int, begin: int, end: int, name: str) -> None:
        dims = [int(d) for d in base.shape.numpy()]
        dims[axis] = end - begin
        super().__init__(self._read, base.dtype, ir.Shape(dims), name=name)
        self.base, self.axis, self.begin, self.end = base, axis, begin, end

    @property
    def file(self) -> Path | None:
        """The data file that holds the whole; None for a tensor in memory."""
        return Path(self.base.path) if isinstance(self.base, ir.ExternalTensor) else None

    @property
    def place(self) -> str:
        """What identifies the slice of a tensor in a file without reading it."""
        base = self.base
        where = f"{base.location} {base.offset or 0}" if isinstance(base, ir.ExternalTensor) else ""
        return f"{where} {list(base.shape.numpy())} {self.axis} {self.begin} {self.end}"

    def numpy(self) -> npt.NDArray[Any]:
        """Return the slice as an array."""
        if not isinstance(self.base, ir.ExternalTensor):
            index = (*[slice(None)] * self.axis, slice(self.begin, self.end))
            return np.asarray(self.base.numpy()[index])
        kind = np.dtype(self.dtype.numpy())
        return np.frombuffer(self.tobytes(), kind.newbyteorder("<")).astype(kind).reshape(self.shape.numpy())

    def __repr__(self) -> str:
        """Return type, shape, name and range."""
        return f"{self._repr_base()}({self.name!r}, {self.begin}:{self.end} of axis {self.axis})"

    def tobytes(self) -> bytes:
        """Return the slice as it lies in a file: little-endian, row by row."""
        return b"".join(self.chunks())

    def tofile(self, file: BinaryIO) -> None:
        """Write what :meth:`tobytes` returns, a part at a time."""
        for chunk in self.chunks():
            file.write(chunk)

    def chunks(self) -> Iterator[bytes]:
        """Yield what :meth:`tobytes` returns in parts of a few mebibytes.

        Raises
        ------
        InputError
            If the original's file cannot be read or ends early.
        """
        if isinstance(self.base, ir.ExternalTensor):
            yield from self._pieces(self.base)
            return
        array = self.numpy()
        kind = array.dtype.newbyteorder("<") if array.dtype.isnative else array.dtype
        rows = array.reshape(-1) if array.ndim == 0 else array
        count = max(1, _BLOCK // max(1, rows[:1].nbytes)) if len(rows) else 1
        for at in range(0, len(rows), count):
            yield rows[at : at + count].astype(kind, copy=False).tobytes()

    def _read(self) -> ir.TensorProtocol:
        return ir.Tensor(self.numpy(), self.dtype, name=self.name)

    def _pieces(self, base: ir.ExternalTensor) -> Iterator[bytes]:
        """Read blocks of rows, all indices of ``axis`` and what lies within, and cut them."""
        dims = [int(d) for d in base.shape.numpy()]
        inner = math.prod(dims[self.axis + 1 :]) * int(self.dtype.bitwidth) // 8
        row, rows = dims[self.axis] * inner, math.prod(dims[: self.axis])
        first, last = self.begin * inner, self.end * inner
        # Rows too long for a block are read one by one, and only what is wanted of them.
        count = max(1, _BLOCK // max(row, 1))
        try:
            with open(base.path, "rb") as file:
                for at in range(0, rows, count):
                    taken = min(count, rows - at)
                    file.seek((base.offset or 0) + at * row + first)
                    length = (taken - 1) * row + last - first
                    yield from _columns(file, base, length, row, last - first)
        except OSError as error:
            raise InputError(base.path, f"external data cannot be read: {error.strerror}") from error


def _columns(file: BinaryIO, base: ir.ExternalTensor, length: int, row: int, piece: int) -> Iterator[bytes]:
    """Read ``length`` bytes that begin with a piece and have one every ``row`` bytes; yield the pieces."""
    if length == piece:  # one row: contiguous, and maybe long
        while length:
            yield _exactly(file, base, min(length, _BLOCK))
            length -= min(length, _BLOCK)
        return
    block = np.frombuffer(_exactly(file, base, length).ljust(-(-length // row) * row, b"\0"), np.uint8)
    yield block.reshape(-1, row)[:, :piece].tobytes()


def _exactly(file: BinaryIO, base: ir.ExternalTensor, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise InputError(base.path, "external data ended early: the file changed while being read")
    return data


def slice_tensor(
    tensor: ir.TensorProtocol, axis: int, begin: int, end: int, name: str
) -> ir.ExternalTensor | SlicedTensor:
    """Return indices ``begin`` to ``end`` along ``axis``; a byte range of the file where they are one.

    Parameters
    ----------
    tensor : onnx_ir.TensorProtocol
        Its elements take whole bytes.
    axis : int
        Counted from the front.
    begin, end : int
    name : str
        Of the slice.
    """
    dims = [int(d) for d in tensor.shape.numpy()]
    if isinstance(tensor, SlicedTensor) and tensor.axis == axis:
        return slice_tensor(tensor.base, axis, tensor.begin + begin, tensor.begin + end, name)
    if isinstance(tensor, ir.ExternalTensor) and math.prod(dims[:axis]) == 1:
        inner = math.prod(dims[axis + 1 :]) * int(tensor.dtype.bitwidth) // 8
        return ir.ExternalTensor(
            tensor.location,
            (tensor.offset or 0) + begin * inner,
            (end - begin) * inner,
            tensor.dtype,
            shape=ir.Shape([*dims[:axis], end - begin, *dims[axis + 1 :]]),
            name=name,
            base_dir=tensor.base_dir,
        )
    return SlicedTensor(tensor, axis, begin, end, name)


def can_slice(tensor: ir.TensorProtocol) -> bool:
    """Return whether the elements take whole bytes and lie in an array or a file."""
    return tensor.dtype != ir.DataType.STRING and int(tensor.dtype.bitwidth) % 8 == 0


def files_behind(tensors: Iterable[ir.TensorProtocol]) -> Mapping[Path, Stamp]:
    """Return the data files that slices are read from, and what tells whether one changes."""
    files = {each.file for each in tensors if isinstance(each, SlicedTensor)}
    return {file: stamp(file) for file in files if file is not None}
