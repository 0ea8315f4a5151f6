"""What onnxruntime says when it fails, as one line."""

from __future__ import annotations

import re

_STATUS = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
#: Where in its sources it failed; the function's signature follows.
_PLACE = re.compile(r"/onnxruntime_src/\S+:\d+ ")
_AFTER_SIGNATURE = re.compile(r" const\b| \[with [^\]]*\]")
#: Messages can quote whole lists of types; what a user needs comes well before this.
_LONGEST = 500


_IR_VERSION = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_OPSET = re.compile(r"Opset (\d+) is under development.* support for domain (\S+) is till opset (\d+)")


def too_new(error: BaseException) -> str | None:
    """Return in a few words what is too new for this onnxruntime, where a model fails to load for that."""
    line = " ".join(str(error).split())
    ir, opset = _IR_VERSION.search(line), _OPSET.search(line)
    if ir:
        return f"the model has IR version {ir[1]}; onnxruntime {_version()} supports up to {ir[2]}"
    if opset:
        what = f"operator set {opset[1]} of {opset[2]}"
        return f"the model uses {what}; onnxruntime {_version()} supports up to {opset[3]}"
    return None


def _version() -> str:
    import onnxruntime

    return ".".join(onnxruntime.__version__.split(".")[:2])


def reason(error: BaseException) -> str:
    """Return the message of an exception on one line, without onnxruntime's status and source location."""
    line = " ".join(_STATUS.sub("", str(error)).split())
    line = _without_place(line) or type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _without_place(line: str) -> str:
    while place := _PLACE.search(line):
        end = _end_of_signature(line, place.end())
        line = f"{line[: place.start()]}{line[end:].lstrip()}"
    return line


def _end_of_signature(line: str, start: int) -> int:
    """Return where a C++ signature ends: behind the parenthesis that closes its parameters."""
    depth = 0
    for at in range(start, len(line)):
        depth += (line[at] == "(") - (line[at] == ")")
        if line[at] == ")" and depth == 0 and line[at + 1 : at + 2] in ("", " "):
            end = at + 1
            while more := _AFTER_SIGNATURE.match(line, end):
                end = more.end()
            return end
    return start
