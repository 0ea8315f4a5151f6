"""Running a split model: one onnxruntime session per stage, the same call as an unsplit one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from onnx_pipeline import manifest
from onnx_pipeline.errors import InputError, PipelineError
from onnx_pipeline.execute import run_session, to_numpy
from onnx_pipeline.manifest import DATA_FOLDER_OPTION, Manifest, Port, Shape


@dataclass(frozen=True)
class NodeArg:
    """A model input or output, like onnxruntime's: name, type such as ``tensor(float)``, shape."""

    name: str
    type: str
    shape: Shape


class PipelineSession:
    """Run the stages of an output directory as if they were one model.

    Parameters
    ----------
    directory : path-like
        Output of ``split``.
    providers : sequence, optional
        onnxruntime execution providers of every stage; the CPU by default.
    session_options : onnxruntime.SessionOptions, optional
        For every stage.

    Raises
    ------
    InputError
        If the directory or a stage cannot be loaded.

    Examples
    --------
    >>> with PipelineSession("out") as session:  # doctest: +SKIP
    ...     (logits,) = session.run(None, {"image": image})
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        providers: Sequence[Any] | None = None,
        session_options: Any = None,
    ) -> None:
        self.directory = Path(directory)
        self.manifest: Manifest = manifest.read(directory)
        self._providers = list(providers) if providers is not None else ["CPUExecutionProvider"]
        self._sessions = [self._load(stage.file, session_options) for stage in self.manifest.stages]
        self._release = self._last_uses()

    def __enter__(self) -> Self:
        """Return the session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Release all stages; the session cannot run any more."""
        self._sessions = []

    def get_inputs(self) -> list[NodeArg]:
        """Return what :meth:`run` must be fed."""
        return [_node_arg(port) for port in self.manifest.model.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """Return what :meth:`run` gives."""
        return [_node_arg(port) for port in self.manifest.model.outputs]

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """Run the stages one after another.

        Parameters
        ----------
        output_names : sequence of str or None
            Model outputs to return, all of them by default.
        feeds : mapping of str to array
            Every model input.

        Returns
        -------
        list
            One array (or list, for a sequence) per output.

        Raises
        ------
        InputError
            If an input or output is unknown or missing, or an input has a wrong type or shape.
        PipelineError
            If a stage fails or the session is closed.
        """
        if not self._sessions:
            raise PipelineError("the pipeline session is closed")
        known = [port.name for port in self.manifest.model.outputs]
        wanted = list(output_names) if output_names is not None else known
        for name in wanted:
            if name not in known:
                raise InputError(self.directory, f"no output {name!r}; there are {', '.join(known)}")
        live = check_feeds(self.manifest, feeds)
        results = {name: live[name] for name in known if name in live}
        for stage, session, done in zip(self.manifest.stages, self._sessions, self._release, strict=True):
            names = [port.name for port in stage.outputs]
            inputs = {port.name: live[port.name] for port in stage.inputs}
            try:
                values = run_session(session, names, inputs)
            except Exception as error:
                reason = " ".join(str(error).split())
                raise PipelineError(f"{self.directory}: stage {stage.index} failed: {reason}") from error
            live.update(zip(names, values, strict=True))
            results.update((name, live[name]) for name in names if name in known)
            for name in done:
                live.pop(name, None)
        return [to_numpy(results[name]) for name in wanted]

    def _load(self, file: str, options: Any) -> Any:
        import onnxruntime

        path = self.directory / file
        if options is None:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
        model: Any = str(path)
        weights = self.manifest.weights
        if weights is not None and weights["mode"] == "reference":
            # A path into another folder is refused in a file, but not as an option of the session.
            options.add_session_config_entry(DATA_FOLDER_OPTION, weights["folder"])
            model = path.read_bytes()
        try:
            return onnxruntime.InferenceSession(model, options, providers=self._providers)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise InputError(path, f"onnxruntime cannot load this stage: {reason}") from error

    def _last_uses(self) -> list[list[str]]:
        """Return, per stage, the tensors that no later stage reads."""
        last: dict[str, int] = {}
        for stage in self.manifest.stages:
            last.update((port.name, stage.index) for port in (*stage.outputs, *stage.inputs))
        return [
            [name for name, index in last.items() if index == stage.index] for stage in self.manifest.stages
        ]


def check_feeds(document: Manifest, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the feeds of a split model as arrays.

    Raises
    ------
    InputError
        On the first input that is missing, unknown, or of a wrong type or shape.
    """
    ports = {port.name: port for port in document.model.inputs}
    for name in feeds:
        if name not in ports:
            raise InputError(None, f"the model has no input {name!r}; it takes {', '.join(ports) or 'none'}")
    arrays: dict[str, Any] = {}
    for name, port in ports.items():
        if name not in feeds:
            raise InputError(None, f"input {name!r} ({_text(port)}) is missing")
        arrays[name] = _check_feed(port, feeds[name])
    return arrays


def _check_feed(port: Port, value: Any) -> Any:
    if "(" in port.dtype or port.dtype == "unknown":  # a sequence or the like
        return value
    array = np.asarray(value)
    given = "string" if array.dtype.kind in "OUST" else array.dtype.name
    if given != port.dtype:
        raise InputError(None, f"input {port.name!r} must be {port.dtype}, got {array.dtype}")
    shape = port.shape
    if shape is not None and (
        len(shape) != array.ndim
        or any(isinstance(want, int) and want != got for want, got in zip(shape, array.shape, strict=True))
    ):
        raise InputError(None, f"input {port.name!r} must be {_text(port)}, got shape {list(array.shape)}")
    return array


def _text(port: Port) -> str:
    shape = "" if port.shape is None else f"[{', '.join('?' if d is None else str(d) for d in port.shape)}]"
    return f"{port.dtype}{shape}"


def _node_arg(port: Port) -> NodeArg:
    kind = {"float32": "float", "float64": "double"}.get(port.dtype, port.dtype)
    return NodeArg(port.name, kind if "(" in kind else f"tensor({kind})", port.shape)
