"""Weights of a stage: inline when small, otherwise copied file to file or used where they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import onnx_ir as ir

from onnx_pipeline.errors import Advice, InputError
from onnx_pipeline.model.external import external_entries, stamp
from onnx_pipeline.model.sliced import SlicedTensor
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.settings import check

#: Weights of a stage up to this many bytes in total stay inside its model file.
INLINE_BYTES = 1 << 20
#: A single tensor below this size stays inline in any case: it may be a shape that inference needs.
_SMALL_BYTES = 1 << 10
_CHUNK = 1 << 22
_ZEROS = bytes(_CHUNK)
#: onnxruntime maps files, and processors load, best at these boundaries.
_PAGE, _LINE = 4096, 64

#: Where a tensor's bytes lie: data file, offset, length.
Place = tuple[str, int, int]


class SharedFiles:
    """The model's own data files, as all stages use them when nothing is copied.

    Parameters
    ----------
    source : SourceModel
    folder : Path
        The output directory.
    mode : str
        ``"copy"``: there are none. ``"link"``: hard links in the output directory. ``"reference"``: the
        files where they are; the stages then name them relative to ``source.data_dir``.

    Raises
    ------
    UsageError
        If there is no such mode.
    """

    def __init__(self, source: SourceModel, folder: Path, mode: str) -> None:
        self.mode = check("weights", mode)
        self._source, self._folder = source, folder
        self._names: dict[Path, str] = {}

    def place(self, file: Path, offset: int, length: int) -> Place | None:
        """Return where a stage finds a range of a data file; None if it must be copied."""
        if self.mode == "copy":
            return None
        if file not in self._names:
            check_unchanged(self._source, file)
            self._names[file] = self._link(file) if self.mode == "link" else self._relative(file)
        return self._names[file], offset, length

    def entry(self) -> dict[str, Any] | None:
        """Return the manifest's entry; None when every stage has its own copy."""
        if not self._names:
            return None
        files = [
            {"file": name, "bytes": file.stat().st_size, "modified_ns": file.stat().st_mtime_ns}
            for file, name in self._names.items()
        ]
        where = {"folder": str(self._source.data_dir)} if self.mode == "reference" else {}
        return {"mode": self.mode, **where, "files": files}

    def _link(self, file: Path) -> str:
        name = f"weights_{len(self._names)}.onnx.data"
        try:
            os.link(file, self._folder / name)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            hint = Advice("{weights} copies it", weights="copy")
            raise InputError(file, f"cannot be hard-linked into the output ({reason})", hint) from error
        return name

    def _relative(self, file: Path) -> str:
        return file.relative_to(self._source.data_dir).as_posix()


def check_unchanged(source: SourceModel, file: Path) -> None:
    """Refuse a data file that was replaced or written to since the model was loaded."""
    try:
        same = stamp(file) == source.stamps.get(file, stamp(file))
    except OSError as error:
        raise InputError(file, f"external data cannot be read: {error.strerror}") from error
    if not same:
        raise InputError(file, "the file changed while the model was being split")


class WeightStore:
    """The data file of one stage, created with the first tensor.

    Parameters
    ----------
    source : SourceModel
    folder : Path
        Where to write.
    name : str
        Name of the data file.
    placed : mapping of str to Place
        Tensors that other data files in ``folder`` hold already, by name.
    shared : SharedFiles, optional
        Data files that need not be copied.

    Attributes
    ----------
    size : int
        Bytes written; 0 means that no file was created.
    sha256 : str
        Hash of the file, valid after :meth:`close`.
    placed : dict of str to Place
        Tensors in data files, by name.
    """

    def __init__(
        self,
        source: SourceModel,
        folder: Path,
        name: str,
        placed: Mapping[str, Place] | None = None,
        shared: SharedFiles | None = None,
    ) -> None:
        self.name = name
        self._shared = shared
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
        elif tensor.dtype == ir.DataType.STRING:  # only such tensors have this method, the protocol has not
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
            self._file.truncate(self.size)  # a hole at the end has not been written
            self._file.close()
            self._file = None

    def _write(self, tensor: ir.TensorProtocol) -> Place:
        if isinstance(tensor, ir.ExternalTensor):
            return self._copy(Path(tensor.path), tensor.offset or 0, tensor.nbytes)
        if isinstance(tensor, SlicedTensor):
            return self._append(self._cut(tensor), tensor.nbytes)
        return self._append(iter([tensor.tobytes()]), tensor.nbytes)

    def _cut(self, tensor: SlicedTensor) -> Iterator[bytes]:
        """Yield a slice whose pieces lie apart, a part at a time."""
        if tensor.file is not None:
            check_unchanged(self._source, tensor.file)
        yield from tensor.chunks()
        if tensor.file is not None:
            check_unchanged(self._source, tensor.file)

    def _copy(self, path: Path, offset: int, length: int) -> Place:
        key = (path, offset, length)
        place = None if self._shared is None else self._shared.place(*key)
        if place is not None:
            return place
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
            if len(data) == _CHUNK and data == _ZEROS:
                self._file.seek(_CHUNK, os.SEEK_CUR)  # a sparse file stays sparse
            else:
                self._file.write(data)
            self._hash.update(data)
            self.size += len(data)

    def _read(self, path: Path, offset: int, length: int) -> Iterator[bytes]:
        check_unchanged(self._source, path)
        try:
            with path.open("rb") as file:
                file.seek(offset)
                while length:
                    chunk = file.read(min(length, _CHUNK))
                    if not chunk:
                        raise InputError(path, "external data ended early: the file changed while being read")
                    length -= len(chunk)
                    yield chunk
            check_unchanged(self._source, path)
        except OSError as error:
            raise InputError(path, f"external data cannot be read: {error.strerror}") from error


def _point(proto: onnx.TensorProto, place: Place) -> None:
    proto.ClearField("raw_data")
    proto.data_location = onnx.TensorProto.EXTERNAL
    del proto.external_data[:]
    for key, value in zip(("location", "offset", "length"), place, strict=True):
        proto.external_data.add(key=key, value=str(value))
