"""Runs of a whole model: its session, and what to tell the user when onnxruntime cannot run it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from onnx_pipeline.errors import Advice, InputError, PipelineError
from onnx_pipeline.model.dimensions import bound_dims, dims_of, unranked
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.limits import MAX_LOOP_SECONDS
from onnx_pipeline.model.nodes import node_inputs
from onnx_pipeline.model.protos import serialize
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.ort.call import run_session
from onnx_pipeline.ort.errors import reason
from onnx_pipeline.ort.session import SessionSettings, open_session
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.stop import Deadline

#: No optimisation: it could remove the values that we want to see.
PLAIN = SessionSettings(optimise=False)


#: What is tried for an input for which the model says no rank.
RANKS = (1, 2, 0, 3, 4)
#: Where onnxruntime's message says which node failed.
_FAILED = re.compile(r"Name:'([^']*)'")


class CannotRunError(InputError):
    """The model does not run with the inputs at hand; others may do, and so may computed costs."""


def open_model(
    source: SourceModel,
    settings: SessionSettings,
    extra_outputs: Sequence[str] = (),
    without: Collection[str] = (),
) -> Any:
    """Return a session of the model as loaded, with its weights and custom operators.

    Parameters
    ----------
    source : SourceModel
    settings : SessionSettings
    extra_outputs : sequence of str
        Values to expose as additional outputs.
    without : collection of str
        Values whose nodes are left out.

    Raises
    ------
    InputError
        If onnxruntime cannot load it.
    """
    own = replace(settings, data_folder=source.data_dir, custom_ops=source.custom_ops)
    return open_session(serialize(source.ir, source.path, extra_outputs, without), own, file=source.path)


def explain_failure(source: SourceModel, dims: Mapping[str, int] | None, error: Exception) -> InputError:
    """Turn onnxruntime's refusal to run the model into one line that names the dimension to set.

    Other values of one or two symbolic dimensions are tried for a few seconds.
    """
    bound = bound_dims(source, dims)
    if not bound:
        message = f"onnxruntime cannot run the model: {reason(error)}"
        hint = Advice(f"{_suspicion(source, error)}try {{inputs}}", inputs=...)
        return CannotRunError(source.path, message, hint)
    now = ", ".join(f"{name}={value}" for name, value in bound.items())
    message = f"onnxruntime cannot run the model with {now}"
    better = _working_dims(source, bound)
    if better is None:
        text = f"{_suspicion(source, error)}set dimensions that agree with {{dims}}"
        return CannotRunError(source.path, f"{message}: {reason(error)}", Advice(text, dims=...))
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


def run_once(
    source: SourceModel,
    session: Any,
    wanted: Sequence[str],
    inputs: Mapping[str, Any],
    seconds: float = math.inf,
) -> dict[str, Any]:
    """Compute some values, and what they need; Ctrl-C ends the run.

    Parameters
    ----------
    source : SourceModel
    session : onnxruntime.InferenceSession
        Of the model.
    wanted : sequence of str
    inputs : mapping of str to array
    seconds : float
        Limit where the model has a Loop, which may never end.

    Raises
    ------
    InputError
        If onnxruntime fails, or a Loop does not come to an end.
    """
    nodes = loops(source)
    try:
        values = run_session(session, wanted, inputs, seconds=seconds if nodes else math.inf)
        return dict(zip(wanted, values, strict=True))
    except Exception as error:
        if "terminate" in str(error).lower():
            some = ", ".join(repr(node.name) for node in nodes[:3])
            raise CannotRunError(
                source.path,
                f"a Loop takes more than {seconds:g} seconds ({some})",
                Advice("give inputs that end it with {inputs}", inputs=...),
            ) from None
        raise explain_failure(source, dims_of(source, inputs), error) from error


def tried_feeds(
    source: SourceModel,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any] | None:
    """Return random inputs with which the model runs, where it does not say their rank.

    None where it says every rank, or none of the usual ones will do. Nothing but the run follows from such a
    rank: no shape of a stage file does.
    """
    names = [str(value.name) for value in unranked(source)]
    if not names:
        return None
    try:
        session = open_model(source, PLAIN)
    except InputError:
        return None
    outputs = [str(value.name) for value in source.outputs]
    deadline = Deadline(MAX_LOOP_SECONDS)
    for ranks in itertools.product(RANKS, repeat=len(names)):
        chosen = dict(zip(names, ranks, strict=True))
        feeds = make_feeds(source, dims, seed, chosen)
        try:
            run_session(session, outputs, feeds, seconds=deadline.remaining)
        except Exception:
            if deadline():
                break
            continue
        for name, rank in chosen.items():
            note = f"input {name!r} has no rank; ran with rank {rank} (give another with {{inputs}})"
            progress("note", None, Advice(note, inputs=...))
        return feeds
    return None


def loops(source: SourceModel) -> list[ir.Node]:
    """Return the nodes because of which a run may never end."""
    nodes = itertools.chain(
        source.ir.graph.all_nodes(), *(body.all_nodes() for body in source.ir.functions.values())
    )
    return [node for node in nodes if node.op_type == "Loop"]


def failed_nodes(source: SourceModel, error: Exception) -> list[ir.Node]:
    """Return the node that onnxruntime's message names, if it is one of the model's own."""
    found = _FAILED.search(str(error))
    return [node for node in source.ir.graph if found is not None and node.name == found[1]]


def _suspicion(source: SourceModel, error: Exception) -> str:
    """Name the inputs that the node that failed depends on: whole numbers first, random ones rarely fit."""
    reached: dict[ir.Value, None] = {}
    waiting: list[ir.Node] = failed_nodes(source, error)
    seen = set(waiting)
    while waiting:
        for value in node_inputs(waiting.pop()):
            reached[value] = None
            producer = value.producer()
            if producer is not None and producer not in seen:
                seen.add(producer)
                waiting.append(producer)
    guilty = [value for value in source.inputs if value in reached]
    guilty = [v for v in guilty if v.dtype is None or not v.dtype.is_floating_point()] or guilty
    if not guilty:
        return ""
    names = ", ".join(repr(value.name) for value in guilty[:3])
    return f"the node depends on the input{'s' if len(guilty) > 1 else ''} {names}: "


def values_behind(source: SourceModel, nodes: Iterable[ir.Node]) -> set[str]:
    """Return the names of the values that depend on one of the nodes."""
    behind = {value for node in nodes for value in node.outputs}
    for node in source.ir.graph:
        if any(value in behind for value in node_inputs(node)):
            behind.update(node.outputs)
    return {str(value.name) for value in behind}


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
                    feeds = make_feeds(source, {**bound, **change})
                    run_session(session, outputs, feeds, seconds=deadline.remaining)
                except Exception:
                    continue
                return change
    return None


def _candidates(name: str, bound: Mapping[str, int]) -> list[int]:
    """Sizes that other inputs suggest for a dimension: theirs, and sums of two of theirs."""
    others = [value for other, value in bound.items() if other != name]
    sums = [a + b for a, b in itertools.combinations(others, 2)]
    return [v for v in dict.fromkeys([*sums, *others]) if v != bound[name]]
