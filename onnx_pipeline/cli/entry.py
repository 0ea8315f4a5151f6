"""The process around the commands: streams, signals, one-line errors and exit codes.

Nothing but the standard library is imported here, so that even the loading of the commands is covered.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

PROGRAM = "onnx-pipeline"
#: Set to any text to see tracebacks, as ``-vv`` does.
TRACEBACK_VARIABLE = "ONNX_PIPELINE_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments after the program's name; those of the process by default.
    """
    interrupt = _Interrupt()
    with ExitStack() as stack:
        stack.enter_context(interrupt)
        try:
            stack.enter_context(_results_only_on_stdout())
            from onnx_pipeline.cli.commands import run

            code = run(arguments, PROGRAM)
            sys.stdout.flush()
            return interrupt.exit_code if code == 130 else code
        except KeyboardInterrupt as error:
            return _fail(error, "interrupted", interrupt.exit_code)
        except BrokenPipeError:
            # The reader of a pipe had enough (`show | head`): end as if by SIGPIPE, without a word.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + getattr(signal, "SIGPIPE", 13)
        except Exception as error:
            from onnx_pipeline.stop import is_interrupt

            if is_interrupt(error):
                return _fail(error, "interrupted", interrupt.exit_code)
            return _fail(error, *explain(error))


def explain(error: BaseException) -> tuple[str, int]:
    """Return the one line that a user reads about an error, and the exit code."""
    from onnx_pipeline.errors import PipelineError

    if isinstance(error, PipelineError):
        from onnx_pipeline.cli.commands import cli
        from onnx_pipeline.cli.spelling import speller

        return error.told(speller(cli)), error.exit_code
    if isinstance(error, MemoryError):
        return "out of memory; smaller --dim values or a machine with more memory may help", 1
    if isinstance(error, OSError) and error.errno:
        names = [
            os.fspath(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)
        ]
        place = " -> ".join(os.fsdecode(name) for name in names) + ": " if names else ""
        hint = "; free some space or choose another -o" if error.errno in {errno.ENOSPC, errno.EDQUOT} else ""
        return f"{place}{os.strerror(error.errno).lower()}{hint}", 1
    return (
        f"internal error: {type(error).__name__}: {error} "
        f"(this is a bug: please report it with the traceback that {TRACEBACK_VARIABLE}=1 or -vv shows)"
    ), 1


def _fail(error: BaseException, message: str, code: int) -> int:
    wanted = os.environ.get(TRACEBACK_VARIABLE) or logging.getLogger("onnx_pipeline").isEnabledFor(
        logging.DEBUG
    )
    from onnx_pipeline.cli.terminal import folded
    from onnx_pipeline.errors import printable

    with suppress(OSError, ValueError):  # nobody may be listening
        if wanted:
            import traceback

            traceback.print_exception(error)
        line = printable(" ".join(message.split()))
        print(folded(f"{PROGRAM}: error: {line}", sys.stderr), file=sys.stderr, flush=True)
    return code


class _Interrupt:
    """Turns SIGINT and SIGTERM into one KeyboardInterrupt, so that every clean-up runs.

    Impatient repetitions within a second are dropped: they would interrupt the clean-up itself.
    """

    def __init__(self) -> None:
        self.exit_code = 130
        self._last = -1.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        with suppress(ValueError):  # not in the main thread: the signals are somebody else's
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # what it returned, it takes back

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last < 1.0 and self._last >= 0:
            return
        self._last = now
        self.exit_code = 128 + number
        raise KeyboardInterrupt


@contextmanager
def _results_only_on_stdout() -> Iterator[None]:
    """Keep stray prints of native libraries off stdout: file descriptor 1 becomes stderr.

    ``sys.stdout`` goes on to the real standard output. Left alone where sys.stdout is not the process's own.
    """
    try:
        if sys.stdout.fileno() != 1:
            raise ValueError
        stream = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace")
        os.dup2(2, 1)
    except (OSError, ValueError, AttributeError):
        yield
        return
    previous, sys.stdout = sys.stdout, stream
    try:
        yield
    finally:
        sys.stdout = previous
        with suppress(OSError):
            stream.flush()
        os.dup2(stream.fileno(), 1)
        with suppress(OSError):
            stream.close()
