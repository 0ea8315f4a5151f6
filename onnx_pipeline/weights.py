"""Weights on their way into a stage: inline when small, else copied file to file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir

from onnx_pipeline.errors import InputError
from onnx_pipeline.external import external_entries
from onnx_pipeline.model import SourceModel

#: Weights of a stage up to this many bytes in total stay inside its model file.
INLINE_BYTES = 1 << 20
#: A single tensor below this size stays inline in any case: it may be a shape that inference needs.
_SMALL_BYTES = 1 << 10
_CHUNK = 1 << 22
#: onnxruntime maps files, and processors load, best at these boundaries.
_PAGE, _LINE = 4096, 64

#: Where a tensor's bytes lie: data file, offset, length.
Place = tuple[str, int, int]


class WeightStore:
    """The data file of one stage; it comes into being with the first tensor.

    Parameters
    ----------
    source : SourceModel
    folder : Path
        Where to write.
    name : str
        Of the data file.
    placed : mapping of str to Place
        Tensors that other data files in ``folder`` hold already, by name.

    Attributes
    ----------
    size : int
        Bytes written; 0 means that there is no file.
    sha256 : str
        Of the file, valid after :meth:`close`.
    placed : dict of str to Place
        Tensors in data files, by name.
    """

    def __init__(
        self, source: SourceModel, folder: Path, name: str, placed: Mapping[str, Place] | None = None
    ) -> None:
        self.name = name
        self.size = 0
        self.placed = dict(placed or {})
        self._source = source
        self._path = folder / name
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._outside = False
        self._ranges: dict[tuple[Path, int, int], Place] = {}

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written."""
        return self._hash.hexdigest()

    def begin(self, tensors: Iterable[ir.TensorProtocol]) -> None:
        """Decide from all weights of the stage whether they need a data file."""
        self._outside = sum(tensor.nbytes for tensor in tensors) > INLINE_BYTES

    def takes(self, tensor: ir.TensorProtocol) -> bool:
        """Return whether a tensor's bytes go to the data file."""
        if tensor.dtype == ir.DataType.STRING:
            return False
        return self._outside and tensor.nbytes >= _SMALL_BYTES

    def add(self, name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
        """Return the initializer for a tensor, its bytes written where they belong."""
        proto = onnx.TensorProto(
            name=name, data_type=tensor.dtype.value, dims=[int(d) for d in tensor.shape.numpy()]
        )
        proto.doc_string = tensor.doc_string or ""
        for key, text in tensor.metadata_props.items():
            proto.metadata_props.add(key=key, value=text)
        if self.takes(tensor):
            if name not in self.placed:
                self.placed[name] = self._write(tensor)
            _point(proto, self.placed[name])
        elif tensor.dtype == ir.DataType.STRING:
            proto.string_data.extend(tensor.string_data())  # type: ignore[attr-defined]
        elif isinstance(tensor, ir.ExternalTensor):
            where = (Path(tensor.path), tensor.offset or 0, tensor.nbytes)
            proto.raw_data = b"".join(self._read(*where))
        else:
            proto.raw_data = tensor.tobytes()
        return proto

    def relocate(self, proto: onnx.TensorProto) -> None:
        """Move a nested tensor's external data from the source's files to this one."""
        fields = external_entries(proto)
        if not fields:
            return
        where = (
            self._source.data_dir / fields["location"],
            int(fields.get("offset", 0)),
            int(fields["length"]),
        )
        if self._outside and where[2] >= _SMALL_BYTES:
            _point(proto, self._copy(*where))
        else:
            proto.ClearField("data_location")
            del proto.external_data[:]
            proto.raw_data = b"".join(self._read(*where))

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, tensor: ir.TensorProtocol) -> Place:
        if isinstance(tensor, ir.ExternalTensor):
            return self._copy(Path(tensor.path), tensor.offset or 0, tensor.nbytes)
        return self._append(iter([tensor.tobytes()]), tensor.nbytes)

    def _copy(self, path: Path, offset: int, length: int) -> Place:
        key = (path, offset, length)
        if key not in self._ranges:
            self._ranges[key] = self._append(self._read(*key), length)
        return self._ranges[key]

    def _append(self, chunks: Iterator[bytes], length: int) -> Place:
        if self._file is None:
            self._file = self._path.open("wb")
        align = _PAGE if length >= _PAGE else _LINE
        self._put(bytes(-self.size % align))
        offset = self.size
        for chunk in chunks:
            self._put(chunk)
        return self.name, offset, length

    def _put(self, data: bytes) -> None:
        if data and self._file is not None:
            self._file.write(data)
            self._hash.update(data)
            self.size += len(data)

    def _read(self, path: Path, offset: int, length: int) -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                while length:
                    chunk = file.read(min(length, _CHUNK))
                    if not chunk:
                        raise InputError(path, "external data ended early: the file changed while being read")
                    length -= len(chunk)
                    yield chunk
        except OSError as error:
            raise InputError(path, f"external data cannot be read: {error.strerror}") from error


def _point(proto: onnx.TensorProto, place: Place) -> None:
    proto.ClearField("raw_data")
    proto.data_location = onnx.TensorProto.EXTERNAL
    del proto.external_data[:]
    for key, value in zip(("location", "offset", "length"), place, strict=True):
        proto.external_data.add(key=key, value=str(value))
