"""Messages through a pipe: one system call to send, usually one to receive."""

from __future__ import annotations

import marshal
import os
import select
import struct
from typing import Any

_HEADER = struct.Struct("=I")
_CHUNK = 1 << 16


class Sender:
    """The writing end; it owns the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def send(self, message: Any) -> None:
        """Send numbers, text, bytes, None, and tuples, lists and dicts of them.

        Raises
        ------
        BrokenPipeError
            If the other end is closed.
        """
        body = marshal.dumps(message)
        data = memoryview(_HEADER.pack(len(body)) + body)
        while data:
            data = data[os.write(self.descriptor, data) :]

    def close(self) -> None:
        """Close this end; the other sees the end of the stream. May be called again."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Receiver:
    """The reading end; it owns the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._buffer = bytearray()

    def fileno(self) -> int:
        """Return the descriptor, for waiting."""
        return self.descriptor

    def receive(self) -> Any:
        """Wait for a message.

        Raises
        ------
        EOFError
            If the other end is closed.
        """
        self._fill(_HEADER.size)
        end = _HEADER.size + _HEADER.unpack_from(self._buffer)[0]
        self._fill(end)
        message = marshal.loads(memoryview(self._buffer)[_HEADER.size : end])
        del self._buffer[:end]
        return message

    def ready(self) -> bool:
        """Whether a message, or a part of one, is there."""
        if self._buffer:
            return True
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the descriptor. May be called again."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _fill(self, count: int) -> None:
        while len(self._buffer) < count:
            data = os.read(self.descriptor, _CHUNK)
            if not data:
                raise EOFError
            self._buffer += data
