"""Tensors in memory that processes share, without a name that could be left behind.

A ring holds tensors of one lifetime: those of one producer whose last reader is the same stage. Within a
chain of stages with a worker each, its slots are used in turn. Because requests keep their order there and
the queues between stages are bounded, a ring with ``(depth + 1) * distance + 1`` slots never overwrites what
is still read (distance: stages from producer to last reader), so no lock is needed. Elsewhere a slot belongs
to a request: no two requests inside have the same ticket, and there is a slot for each ticket.
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_pipeline.ort.call import is_packed, raw_bytes, to_bytes

#: Address space of a slot; memory is only used for what was written.
STRIDE = 1 << 36
ALIGN = 64
_LEAST = 1 << 16


class Place(NamedTuple):
    """Where a value is: ring, slot and bytes in it; no dtype for a pickled value."""

    ring: int
    slot: int
    offset: int
    nbytes: int
    dtype: str | None
    shape: tuple[int, ...]


#: The same as a plain tuple, which passes between processes faster.
PlaceRow = tuple[int, int, int, int, str | None, tuple[int, ...]]
place_of = Place._make


def slots_needed(depth: int, distance: int, limit: int) -> int:
    """Return how many slots a ring needs; no more than ``limit`` requests are ever inside."""
    return min(limit, (depth + 1) * distance + 1)


def anonymous_file(slots: int) -> int:
    """Return the descriptor of a file without a name, of room for some slots."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("onnx-pipeline", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, slots * STRIDE)
    return descriptor


class Ring:
    """One process's view of a ring.

    Parameters
    ----------
    index : int
        Number of the ring.
    descriptor : int
        Descriptor of the file; this object owns it.
    slots : int
    by_ticket : bool
        Whether requests bring the number of their slot.
    """

    def __init__(self, index: int, descriptor: int, slots: int, by_ticket: bool = False) -> None:
        self.index, self.slots, self.by_ticket = index, slots, by_ticket
        self.descriptor = descriptor
        self._maps: list[npt.NDArray[np.uint8] | None] = [None] * slots
        self._addresses = [0] * slots
        self._next = 0
        self._held: list[npt.NDArray[np.uint8]] = []

    def take(self, ticket: int) -> int:
        """Return the slot to write for a request."""
        if self.by_ticket:
            return ticket
        slot = self._next
        self._next = (slot + 1) % self.slots
        return slot

    def give_back(self) -> None:
        """Undo the last :meth:`take`."""
        if self.by_ticket:
            return
        self._next = (self._next - 1) % self.slots

    def memory(self, slot: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return the bytes of a slot, at least so many; older views and addresses in them stay valid."""
        known = self._maps[slot]
        if known is not None and known.nbytes >= nbytes:
            return known
        if nbytes > STRIDE:
            raise ValueError(f"{nbytes} bytes cross a border between stages, more than one slot holds")
        size = max(_LEAST, 1 << (nbytes - 1).bit_length())
        view = np.frombuffer(mmap.mmap(self.descriptor, size, offset=slot * STRIDE), np.uint8)
        self._maps[slot], self._addresses[slot] = view, view.ctypes.data
        # onnxruntime may have been told an address in a smaller view. Sizes double, so there are few of them.
        self._held.append(view)
        return view

    def address(self, slot: int, nbytes: int) -> int:
        """Return where a slot of at least so many bytes begins."""
        self.memory(slot, nbytes)
        return self._addresses[slot]

    def view(self, place: Place) -> npt.NDArray[Any]:
        """Return a tensor as it lies in memory, valid until its slot is used again."""
        raw = self.memory(place.slot, place.offset + place.nbytes)[place.offset : place.offset + place.nbytes]
        return raw.view(np.dtype(place.dtype)).reshape(place.shape)

    def read(self, place: Place) -> Any:
        """Return a value: a view of a tensor, a copy of anything else."""
        if place.dtype is not None:
            return self.view(place)
        raw = self.memory(place.slot, place.offset + place.nbytes)[place.offset : place.offset + place.nbytes]
        return pickle.loads(raw.tobytes())  # written by ourselves into memory that only we have

    def write(self, values: Sequence[Any], ticket: int) -> list[PlaceRow]:
        """Copy values of a request into its slot.

        Parameters
        ----------
        values : sequence of array, OrtValue, list, ...
            Arrays of numbers and ``OrtValue`` tensors are copied, everything else is pickled.
        """
        slot = self.take(ticket)
        packed = [pack(value) for value in values]
        places: list[Place] = []
        offset = 0
        for raw, dtype, shape in packed:
            places.append(Place(self.index, slot, offset, raw.nbytes, dtype, shape))
            offset += aligned(raw.nbytes)
        memory = self.memory(slot, offset)
        for place, (raw, _, _) in zip(places, packed, strict=True):
            if place.dtype is None:
                memory[place.offset : place.offset + place.nbytes] = raw
            else:
                np.copyto(self.view(place), raw)
        return [place[:] for place in places]

    def close(self) -> None:
        """Give the file back; memory goes when the last view does."""
        self._maps = [None] * self.slots
        self._held.clear()
        os.close(self.descriptor)


def aligned(nbytes: int) -> int:
    """Return the room that so many bytes take."""
    return -(-nbytes // ALIGN) * ALIGN


def pack(value: Any) -> tuple[npt.NDArray[Any], str | None, tuple[int, ...]]:
    """Return an array to copy, the dtype to read it with (None: it is a pickle) and its shape."""
    if hasattr(value, "data_ptr"):  # an OrtValue of a type that numpy lacks
        shape = tuple(value.shape())
        if is_packed(value):
            return to_bytes(value).reshape(shape), "u1", shape
        raw = np.frombuffer(raw_bytes(value), np.uint8)
        wide = raw.nbytes == 2 * int(np.prod(shape, dtype=np.int64))
        dtype = "u2" if wide else "u1"
        return raw.view(dtype).reshape(shape), dtype, shape
    if isinstance(value, np.ndarray) and value.dtype.isbuiltin == 1 and value.dtype.kind in "biufc":
        return value, value.dtype.str, value.shape
    if isinstance(value, np.ndarray) and value.dtype.isbuiltin == 2:  # ml_dtypes
        dtype = f"u{value.dtype.itemsize}"
        return np.ascontiguousarray(value).view(dtype).reshape(value.shape), dtype, value.shape
    return np.frombuffer(pickle.dumps(value, protocol=5), np.uint8), None, ()
