"""The few exceptions that callers catch; each maps to one exit code of the command line."""

from __future__ import annotations

import os


class PipelineError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class UsageError(PipelineError):
    """A request that makes no sense whatever the files hold (exit code 2)."""

    exit_code = 2


class InputError(PipelineError):
    """An input file that cannot be used: missing, malformed, unsafe or unsupported (exit code 3).

    Parameters
    ----------
    source : str or os.PathLike or None
        The file at fault, or None when the object never was a file.
    message : str
        One line: what is wrong, where, and what to do.
    """

    exit_code = 3

    def __init__(self, source: str | os.PathLike[str] | None, message: str) -> None:
        self.source = None if source is None else os.fspath(source)
        self.message = " ".join(message.split())
        super().__init__(self.message if self.source is None else f"{self.source}: {self.message}")


class StageError(PipelineError):
    """A request that failed inside the pipeline, or a worker that died.

    Parameters
    ----------
    file : str or os.PathLike
        Of the stage.
    stage : int
        Its index.
    reason : str
        What went wrong.
    """

    def __init__(self, file: str | os.PathLike[str], stage: int, reason: str) -> None:
        self.file, self.stage, self.reason = os.fspath(file), stage, " ".join(reason.split())
        super().__init__(f"{self.file}: stage {stage} failed: {self.reason}")


class InfeasibleError(PipelineError):
    """No partition satisfies the given limits (exit code 4)."""

    exit_code = 4


class VerificationError(PipelineError):
    """A split that does not do what its manifest says (exit code 5)."""

    exit_code = 5
