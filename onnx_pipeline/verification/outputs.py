"""The outputs of the chained stages against those of the unsplit model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from onnx_pipeline.errors import InputError, PipelineError
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.model.inputs import check_feeds, load_feeds, make_feeds
from onnx_pipeline.model.roles import random_nodes
from onnx_pipeline.model.running import open_model, run_once, tried_feeds
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.ort.call import to_numpy
from onnx_pipeline.ort.session import SessionSettings, session_options
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.verification.compare import (
    OutputCheck,
    compare_output,
    same_distribution,
    same_form,
    tolerance,
)

Inputs = str | os.PathLike[str] | Mapping[str, npt.NDArray[Any]]
#: Runs of both sides when a model draws random numbers.
RANDOM_RUNS = 24


def compare_outputs(
    folder: Path, document: Manifest, source: SourceModel, arrays: Mapping[str, npt.NDArray[Any]]
) -> tuple[list[OutputCheck], list[str], list[str]]:
    """Run the stages and the unsplit model on the same inputs; return checks, problems and notes.

    Raises
    ------
    InputError
        If the unsplit model cannot be run.
    """
    if random_nodes(source):
        return _compare_random(folder, document, source, arrays)
    expected = _unsplit(source)(arrays)
    try:
        with _stages(folder, source) as stages:
            actual = stages(arrays)
    except PipelineError as error:
        return [], [str(error)], []
    limit = tolerance(source)
    names = [port.name for port in document.model.outputs]
    checks = [compare_output(name, a, e, limit) for name, a, e in zip(names, actual, expected, strict=True)]
    problems = [
        f"output {check.name!r} differs: {check.max_abs:.3g} absolute, {check.max_rel:.3g} of the largest"
        f" value, {check.tolerance:g} allowed"
        for check in checks
        if not check.ok
    ]
    notes = [] if all(check.equal for check in checks) else [_explain(folder, source, arrays)]
    return checks, problems, notes


def random_inputs(
    source: SourceModel, document: Manifest, dims: Mapping[str, int] | None, seed: int
) -> dict[str, npt.NDArray[Any]]:
    """Return seeded random inputs; dimensions that are not given are the manifest's."""
    bound = {**document.cost_model.get("dims", {}), **(dims or {})}
    return tried_feeds(source, bound, seed) or make_feeds(source, bound, seed)


def read_inputs(source: SourceModel, inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
    """Return the given inputs, checked against the model."""
    if not isinstance(inputs, Mapping):
        return load_feeds(inputs, source)
    return check_feeds(source, inputs)


def _compare_random(
    folder: Path, document: Manifest, source: SourceModel, arrays: Mapping[str, npt.NDArray[Any]]
) -> tuple[list[OutputCheck], list[str], list[str]]:
    """Compare means and scatters over many runs: no two runs draw the same numbers."""
    names = [port.name for port in document.model.outputs]
    try:
        # The runtime's optimiser takes Dropout out of a model even where it is told to train.
        whole = _unsplit(source, plain=True)
        with _stages(folder, source, plain=True) as stages:
            actual = [stages(arrays) for _ in range(RANDOM_RUNS)]
        expected = [whole(arrays) for _ in range(RANDOM_RUNS)]
    except InputError:
        raise
    except PipelineError as error:
        return [], [str(error)], []
    operators = ", ".join(sorted({node.op_type for node in random_nodes(source)}))
    note = (
        f"the model uses random numbers ({operators}), so outputs differ between runs; they are "
        f"compared by mean and scatter over {RANDOM_RUNS} runs, without graph optimisations"
    )
    problems = [*same_form(names, actual[0], expected[0])]
    if not problems:
        problems = [*same_distribution(names, actual, expected)]
    return [], problems, [note]


def _explain(folder: Path, source: SourceModel, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Say whether the runtime's optimisations alone make outputs differ, by running without them."""
    with _stages(folder, source, plain=True) as stages:
        actual = stages(arrays)
    expected = _unsplit(source, plain=True)(arrays)
    if all(compare_output("", a, e, 0.0).equal for a, e in zip(actual, expected, strict=True)):
        return "without onnxruntime's graph optimisations the outputs are bitwise equal"
    return "the outputs differ even without onnxruntime's graph optimisations"


Runner = Callable[[Mapping[str, npt.NDArray[Any]]], list[Any]]


@contextmanager
def _stages(folder: Path, source: SourceModel, *, plain: bool = False) -> Iterator[Runner]:
    options = session_options(SessionSettings(optimise=not plain, custom_ops=source.custom_ops))
    with PipelineSession(folder, sess_options=options, allow_reference=source.data_dir) as session:
        yield partial(session.run, None)


def _unsplit(source: SourceModel, *, plain: bool = False) -> Runner:
    session = open_model(source, SessionSettings(optimise=not plain))
    names = [str(v.name) for v in source.outputs]

    def run(arrays: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
        return [to_numpy(value) for value in run_once(source, session, names, arrays).values()]

    return run
