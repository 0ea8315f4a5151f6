"""Arrays by name in ``.npz`` files: the inputs and outputs of ``onnx-pipeline run``."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_pipeline.errors import Advice, InputError
from onnx_pipeline.files.atomic import new_file
from onnx_pipeline.files.messages import is_messages, load_messages
from onnx_pipeline.progress import Progress, silent

if TYPE_CHECKING:
    from onnx_pipeline.manifest import Manifest
    from onnx_pipeline.measurement.timeline import Observe

Arrays = dict[str, npt.NDArray[Any]]


def load_arrays(path: str | os.PathLike[str]) -> Arrays:
    """Read an ``.npz`` file; pickled objects are refused.

    Raises
    ------
    InputError
        If the file cannot be read or is not an ``.npz`` file.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: np.asarray(data[name]) for name in data.files}
    except Exception as error:  # whatever a forged header provokes in numpy's parser
        raise InputError(path, f"cannot read arrays: {unreadable(error)}") from None


def unreadable(error: Exception) -> str:
    """Say why numpy could not read a file of arrays."""
    if isinstance(error, MemoryError):
        return "they do not fit into memory"
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not an .npz file"


def load_inputs(path: str | os.PathLike[str], document: Manifest) -> dict[str, Any]:
    """Read the inputs of a split model from an ``.npz`` file, or from files of messages.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    if not is_messages(path):
        return load_arrays(path)
    ports = (*document.model.inputs, *document.model.defaults)
    return load_messages(path, [(port.name, port.dtype) for port in ports])


def save_arrays(arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    """Write an ``.npz`` file that is complete or absent; all names work, ``file`` and ``a/b`` included."""
    with new_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, _plain(array), allow_pickle=False)


def run_file(
    directory: Path,
    inputs: Path,
    *,
    batched: bool = False,
    progress: Progress = silent,
    observe: Observe | None = None,
    **options: Any,
) -> Arrays:
    """Run the arrays of a file through a split model.

    Parameters
    ----------
    directory : Path
        The split.
    inputs : Path
        The model's inputs by name.
    batched : bool
        Every entry has one more axis in front: entry ``i`` along it is request ``i``, and the outputs are
        stacked the same way. An output whose shape differs between requests becomes ``name[i]``; so do the
        elements of a sequence that differ in shape, and the values of a map by their keys.
    observe : Observe, optional
        Called with the timelines of the requests.
    **options
        Of the :class:`~onnx_pipeline.PipelineSession`.

    Raises
    ------
    InputError
        If the file does not fit the model.
    """
    from onnx_pipeline.runtime import PipelineSession

    with PipelineSession(directory, **options) as session:
        arrays = load_inputs(inputs, session.manifest)
        requests = list(_requests(arrays, inputs)) if batched else [arrays]
        names = [value.name for value in session.get_outputs()]
        results: list[list[Any]] = []
        try:
            for result in session.map(requests):
                results.append(result)
                progress("run", len(results) / len(requests), f"{len(results)} of {len(requests)} requests")
        except InputError as error:
            place = f"request {len(results)}: " if batched else ""
            raise InputError(inputs, f"{place}{error.message}", error.hint) from None
        if observe is not None:
            observe(session.timelines(), [stage.file for stage in session.manifest.stages])
    if not batched:
        entries = zip(names, results[0], strict=True)
        return {key: array for name, value in entries for key, array in _entries(name, value).items()}
    return _stack(names, results)


def describe(arrays: Mapping[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    """Return name, type, shape and, for finite numbers, range of every array."""
    return [
        {"name": name, "dtype": "string" if array.dtype.kind in "OUS" else str(array.dtype)}
        | {"shape": list(array.shape)}
        | _range(array)
        for name, array in arrays.items()
    ]


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what numpy can write: strings, which onnxruntime gives as objects, and bytes of other types."""
    if array.dtype == object:
        return np.asarray(array.astype(str))
    if array.dtype.isbuiltin == 2:  # bfloat16 and the like: the file says how many bytes, not which type
        return np.ascontiguousarray(array).view(f"V{array.dtype.itemsize}").reshape(array.shape)
    return np.asarray(array)


def _requests(arrays: Arrays, path: Path) -> Iterator[Arrays]:
    for name, array in arrays.items():
        if getattr(array, "ndim", 0) == 0:
            message = f"{name!r} is no array, or a scalar, without a leading axis that counts requests"
            raise InputError(path, message, Advice("leave out {batched}", batched=True))
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise InputError(path, f"the entries disagree on the number of requests ({counts})")
    for index in range(next(iter(lengths.values()), 0)):
        yield {name: array[index, ...] for name, array in arrays.items()}


def _stack(names: Sequence[str], results: Sequence[Sequence[Any]]) -> Arrays:
    out: Arrays = {}
    for position, name in enumerate(names):
        out |= _entries(name, [result[position] for result in results])
    return out


def _entries(name: str, value: Any) -> Arrays:
    """Return a value as arrays by name; a list is stacked where that is possible, None is left out."""
    if value is None:
        return {}
    if not isinstance(value, (list, Mapping)):
        return {name: np.asarray(value)}
    parts = value.items() if isinstance(value, Mapping) else enumerate(value)
    found = [_entries(f"{name}[{key}]", each) for key, each in parts]
    arrays = [array for entry in found for array in entry.values()]
    alike = len({(array.shape, array.dtype) for array in arrays}) <= 1
    if (
        isinstance(value, list)
        and alike
        and all(entry.keys() == {f"{name}[{i}]"} for i, entry in enumerate(found))
    ):
        return {name: np.stack(arrays) if arrays else np.zeros(0)}
    return {key: array for entry in found for key, array in entry.items()}


def _range(array: npt.NDArray[Any]) -> dict[str, float]:
    if array.dtype.kind not in "biuf" or not array.size or not np.isfinite(array).all():
        return {}
    return {"min": float(array.min()), "max": float(array.max()), "mean": float(array.mean(dtype=np.float64))}
