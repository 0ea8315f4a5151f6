"""onnxruntime sessions for measurement, and what to tell the user when one fails."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_pipeline.costmodel.profiling.mapping import FloatArray, GraphNode, saved_model
from onnx_pipeline.costmodel.profiling.trace import read_trace
from onnx_pipeline.errors import InputError, UsageError

if TYPE_CHECKING:
    from onnx_pipeline.model.source import SourceModel

Feeds = Mapping[str, np.ndarray[Any, Any]]
#: Models quicker than this run once more before every timed run. Their weights fit into a processor's caches,
#: where other sessions that run in turns would have replaced them; in use they would be there.
QUICK_SECONDS = 0.02
_STATUS = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")


@dataclass(frozen=True)
class Runner:
    """Makes and runs sessions of one model under fixed conditions.

    Raises
    ------
    UsageError
        If this onnxruntime has no such provider.
    """

    source: SourceModel
    feeds: Feeds
    dims: Mapping[str, int]
    provider: str = "CPUExecutionProvider"
    threads: int = 1

    def __post_init__(self) -> None:
        """Check the provider once."""
        import onnxruntime

        available = onnxruntime.get_available_providers()
        if self.provider not in available:
            raise UsageError(
                f"onnxruntime has no {self.provider!r} here; available: {', '.join(sorted(available))}"
            )

    def session(self, *, trace_to: Path | None = None, optimise: bool = True, save: bool = True) -> Any:
        """Make a session.

        Parameters
        ----------
        trace_to : Path or None
            Folder for the profile and the saved optimised model; None for a plain session.
        optimise : bool
            All optimisations, or none.
        save : bool
            Whether a session with a profile saves its model, too.

        Raises
        ------
        InputError
            If onnxruntime cannot load the model.
        """
        import onnxruntime

        from onnx_pipeline.model.source import serialize, session_options

        options = session_options(self.source)
        options.log_severity_level = 4
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        if trace_to is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(trace_to / "trace")
        if trace_to is not None and save:
            options.optimized_model_filepath = str(trace_to / "optimised.onnx")
            _discard_weights(options, trace_to)
        try:
            return onnxruntime.InferenceSession(serialize(self.source), options, providers=[self.provider])
        except Exception as error:  # onnxruntime's exceptions share no base but this one
            raise InputError(
                self.source.path, f"onnxruntime cannot load the model: {_reason(error)}"
            ) from error

    def run(self, session: Any) -> None:
        """Run once.

        Raises
        ------
        InputError
            If onnxruntime fails; the message says which dimensions disagree, where that can be found out.
        """
        from onnx_pipeline.model.shapes import explain_failure

        try:
            session.run(None, self.feeds)
        except Exception as error:
            raise explain_failure(self.source, self.dims, error) from error

    def timed(self, session: Any) -> float:
        """Run once; return the seconds it took."""
        start = time.perf_counter()
        self.run(session)
        return time.perf_counter() - start

    def traced(self, folder: Path, *, optimise: bool) -> Traced | None:
        """Make a session that records its kernels in ``folder``.

        None if the model cannot be saved: a provider that compiles whole subgraphs has no nodes to show.
        """
        folder.mkdir()
        try:
            return Traced(self.session(trace_to=folder, optimise=optimise), folder)
        except InputError:
            return None


@dataclass(frozen=True)
class Traced:
    """A profiled session and the folder with its saved model."""

    session: Any
    folder: Path

    def saved(self) -> tuple[list[GraphNode], dict[str, int]]:
        """Return the nodes that the session executes, in order, and the bytes of its weights by name."""
        return saved_model(self.folder / "optimised.onnx")

    def finish(self, kernels: Sequence[GraphNode], warm_up: int) -> FloatArray:
        """Stop profiling; return microseconds as rounds x kernels, rounds that do not match left out."""
        trace = read_trace(self.session.end_profiling())
        wanted = [kernel.op for kernel in kernels]
        rows = [[e.duration for e in run] for run in trace[warm_up:] if [e.op for e in run] == wanted]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(wanted))


def _discard_weights(options: Any, folder: Path) -> None:
    """Let the saved model write its weights to nowhere: only its structure is of interest."""
    weights = folder / "weights.bin"
    with suppress(OSError):  # without links the weights take disk space until the folder is removed
        weights.symlink_to(os.devnull)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights.name)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", "1024"
    )


def _reason(error: Exception) -> str:
    """Return onnxruntime's message on one line, without its status prefix."""
    return " ".join(_STATUS.sub("", str(error)).split()) or type(error).__name__
