"""The exceptions that callers catch; each maps to an exit code of the command line."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

#: How a front end writes down a parameter with a value, ``...`` standing for any.
Spell = Callable[[str, Any], str]


def as_keyword(name: str, value: Any) -> str:
    """Spell a parameter as Python callers do: ``force=True``, ``dims={"batch": 8}``, ``inputs=...``."""
    if value is ...:
        return f"{name}=..."
    return f"{name}={value if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)}"


class Advice(str):
    """A text that names parameters: a string in the words of Python, which the command line spells its way.

    Parameters
    ----------
    text : str
        With ``{name}`` for each of the parameters; other braces stand for themselves.
    **parameters
        By name the value to give, ``...`` for any.

    Examples
    --------
    >>> print(Advice("give another file, or {force} to replace it", force=True))
    give another file, or force=True to replace it
    """

    def __new__(cls, text: str, /, **parameters: Any) -> Advice:
        """Make the string."""
        self = super().__new__(cls, _spelled(text, parameters, as_keyword))
        self.text, self.parameters = text, parameters
        return self

    text: str
    parameters: dict[str, Any]

    def spelled(self, spell: Spell) -> str:
        """Return the text with the parameters written by ``spell``."""
        return _spelled(self.text, self.parameters, spell)


def _spelled(text: str, parameters: dict[str, Any], spell: Spell) -> str:
    for name, value in parameters.items():
        text = text.replace(f"{{{name}}}", spell(name, value))
    return text


def printable(text: str) -> str:
    """Return a text of a file as a terminal may show it: what moves its cursor or hides is spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def spelled(text: str, spell: Spell) -> str:
    """Return any text: an :class:`Advice` as ``spell`` writes parameters, others as they are."""
    return text.spelled(spell) if isinstance(text, Advice) else text


def did_you_mean(name: str, known: Iterable[str], full: Callable[[str], str] = str) -> str | None:
    """Return a hint at names close to one that is unknown, written in full."""
    close = dict.fromkeys(map(full, difflib.get_close_matches(name, list(known), 3)))
    return f"did you mean {' or '.join(map(repr, close))}?" if close else None


class PipelineError(Exception):
    """Base class of all errors that this package raises deliberately.

    Parameters
    ----------
    message : str
        One line: what is wrong, and where.
    hint : str, optional
        What to do; an :class:`Advice` where it names parameters.
    """

    exit_code = 1

    def __init__(self, message: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message, self.hint = " ".join(message.split()), hint

    def __str__(self) -> str:
        """Return message and hint in the words of Python."""
        return self.told(as_keyword)

    def told(self, spell: Spell) -> str:
        """Return message and hint in one line, parameters written by ``spell``."""
        return f"{self.message}; {spelled(self.hint, spell)}" if self.hint else self.message

    def advice(self, lead: str = "") -> Advice:
        """Return ``lead`` and the error as a text that its reader's front end still spells."""
        parameters = self.hint.parameters if isinstance(self.hint, Advice) else {}
        return Advice(lead + self.told(lambda name, _: f"{{{name}}}"), **parameters)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without calling ``__init__``, whose parameters differ from class to class."""
        return _revive, (type(self), self.args), self.__dict__


def _revive(kind: type[PipelineError], arguments: tuple[Any, ...]) -> PipelineError:
    return kind.__new__(kind, *arguments)


class UsageError(PipelineError):
    """A request that cannot make sense, whatever the files contain (exit code 2)."""

    exit_code = 2


class InputError(PipelineError):
    """An input file that cannot be used: missing, malformed, unsafe or unsupported (exit code 3).

    Parameters
    ----------
    source : str or os.PathLike or None
        The file at fault, or None for an object that did not come from a file.
    message : str
        One line: what is wrong, and where.
    hint : str, optional
        What to do; an :class:`Advice` where it names parameters.
    """

    exit_code = 3

    def __init__(self, source: str | os.PathLike[str] | None, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.source = None if source is None else os.fspath(source)

    def told(self, spell: Spell) -> str:
        """Return file, message and hint in one line."""
        told = super().told(spell)
        return told if self.source is None else f"{self.source}: {told}"


class StageError(PipelineError):
    """A request that failed inside the pipeline, or a worker that died.

    Parameters
    ----------
    file : str or os.PathLike
        File of the stage.
    stage : int
        Index of the stage.
    reason : str
        What went wrong.
    replica : int, optional
        Which replica of the stage, where it has several.
    """

    def __init__(
        self, file: str | os.PathLike[str], stage: int, reason: str, replica: int | None = None
    ) -> None:
        self.file, self.stage, self.replica = os.fspath(file), stage, replica
        self.reason = " ".join(reason.split())
        which = "" if replica is None else f", replica {replica}"
        super().__init__(f"{self.file}: stage {stage}{which} failed: {self.reason}")


class InfeasibleError(PipelineError):
    """No partition satisfies the given limits (exit code 4)."""

    exit_code = 4


class VerificationError(PipelineError):
    """A split that is not what its manifest says (exit code 5)."""

    exit_code = 5
