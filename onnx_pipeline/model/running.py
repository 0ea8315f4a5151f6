"""Runs of a whole model: its session, and what to tell the user when onnxruntime cannot run it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnx_pipeline.errors import Advice, InputError, PipelineError
from onnx_pipeline.model.dimensions import bound_dims
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.protos import serialize
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.ort.call import run_session
from onnx_pipeline.ort.errors import reason
from onnx_pipeline.ort.session import SessionSettings, open_session
from onnx_pipeline.stop import Deadline

#: No optimisation: it could remove the values that we want to see.
PLAIN = SessionSettings(optimise=False)


def open_model(source: SourceModel, settings: SessionSettings, extra_outputs: Sequence[str] = ()) -> Any:
    """Return a session of the model as loaded, with its weights and custom operators.

    Parameters
    ----------
    source : SourceModel
    settings : SessionSettings
    extra_outputs : sequence of str
        Values to expose as additional outputs.

    Raises
    ------
    InputError
        If onnxruntime cannot load it.
    """
    own = replace(settings, data_folder=source.data_dir, custom_ops=source.custom_ops)
    return open_session(serialize(source.ir, source.path, extra_outputs), own, file=source.path)


def explain_failure(source: SourceModel, dims: Mapping[str, int] | None, error: Exception) -> InputError:
    """Turn onnxruntime's refusal to run the model into one line that names the dimension to set.

    Other values of one or two symbolic dimensions are tried for a few seconds.
    """
    bound = bound_dims(source, dims)
    if not bound:
        message = f"onnxruntime cannot run the model: {reason(error)}"
        return InputError(source.path, message, Advice("try {inputs}", inputs=...))
    now = ", ".join(f"{name}={value}" for name, value in bound.items())
    message = f"onnxruntime cannot run the model with {now}"
    better = _working_dims(source, bound)
    if better is None:
        advice = Advice("set dimensions that agree with {dims}", dims=...)
        return InputError(source.path, f"{message}: {reason(error)}", advice)
    inputs = [
        f"{v.name} is {v.shape}"
        for v in source.inputs
        if v.shape is not None and any(str(d) in better for d in v.shape.dims)
    ]
    return InputError(
        source.path,
        f"{message}: the inputs disagree ({', '.join(inputs[:3])})",
        Advice("it runs with {dims}", dims=better),
    )


def _working_dims(source: SourceModel, bound: Mapping[str, int]) -> dict[str, int] | None:
    """Look for other values of one or two dimensions with which the model runs."""
    try:
        session = open_model(source, PLAIN)
    except PipelineError:
        return None
    outputs = [str(v.name) for v in source.outputs]
    deadline = Deadline(5.0)
    unset_first = sorted(bound, key=lambda name: bound[name] != 1)  # likely left at their default
    for count in (1, 2):
        for names in itertools.combinations(unset_first, count):
            for sizes in itertools.product(*(_candidates(name, bound) for name in names)):
                if deadline.remaining == 0:
                    return None
                change = dict(zip(names, sizes, strict=True))
                try:
                    run_session(session, outputs, make_feeds(source, {**bound, **change}))
                except Exception:
                    continue
                return change
    return None


def _candidates(name: str, bound: Mapping[str, int]) -> list[int]:
    """Sizes that other inputs suggest for a dimension: theirs, and sums of two of theirs."""
    others = [value for other, value in bound.items() if other != name]
    sums = [a + b for a, b in itertools.combinations(others, 2)]
    return [v for v in dict.fromkeys([*sums, *others]) if v != bound[name]]
