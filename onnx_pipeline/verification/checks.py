"""Checking an output directory: files, wiring, certificate and, against the model, outputs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from onnx_pipeline import manifest
from onnx_pipeline.consistency import contradictions
from onnx_pipeline.errors import InputError, UsageError, VerificationError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.model.source import load
from onnx_pipeline.parameters import ModelLike
from onnx_pipeline.progress import ProgressLike, shows_progress, silent
from onnx_pipeline.verification.binding import check_model, check_nodes
from onnx_pipeline.verification.claimed import claim_of
from onnx_pipeline.verification.claims import Verdict, check_claim
from onnx_pipeline.verification.compare import OutputCheck
from onnx_pipeline.verification.contents import check_files, check_stages
from onnx_pipeline.verification.measured import check_measured
from onnx_pipeline.verification.plans import check_plan

Inputs = str | os.PathLike[str] | Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class VerifyReport:
    """What was checked, and what is wrong.

    Attributes
    ----------
    directory : str
    stages : int
    checks : tuple of str
        What was checked, in order.
    problems : tuple of str
        One line per problem; empty if the directory is sound.
    notes : tuple of str
        What could not be checked, and why.
    outputs : tuple of OutputCheck
        Comparison with the unsplit model, if one was given.
    not_rechecked : str or None
        The bound that the lower bound rests on, where only a new proof could tell whether it holds.
    corrected_not_rechecked : str or None
        The same of the costs that measurements corrected.
    """

    directory: str
    stages: int
    checks: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    outputs: tuple[OutputCheck, ...] = ()
    not_rechecked: str | None = None
    corrected_not_rechecked: str | None = None

    def __repr__(self) -> str:
        """Return the figures that matter, in one line."""
        from onnx_pipeline.brief import of_report

        return of_report(self)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; infinite differences are null."""
        document = {"ok": self.ok, **asdict(self)}
        for entry in document["outputs"]:
            for key in ("max_abs", "max_rel"):
                if not math.isfinite(entry[key]):
                    entry[key] = None
        return document


@dataclass
class _Findings:
    checks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    outputs: list[OutputCheck] = field(default_factory=list)
    not_rechecked: str | None = None
    corrected_not_rechecked: str | None = None

    def add(self, check: str, problems: Iterable[str]) -> bool:
        """Record a check; return whether it found nothing."""
        found = list(problems)
        self.checks.append(check)
        self.problems += found
        return not found

    def certificate(self, verdict: Verdict) -> None:
        """Record the check of a certificate."""
        self.add("certificate", verdict.problems)
        self.not_rechecked = verdict.unproved

    def measurement(self, verdict: Verdict) -> None:
        """Record the check of what measurements added."""
        self.add("measurement", verdict.problems)
        self.corrected_not_rechecked = verdict.unproved

    def report(self, path: Path, stages: int) -> VerifyReport:
        """Return what was found."""
        return VerifyReport(
            str(path),
            stages,
            tuple(self.checks),
            tuple(self.problems),
            tuple(self.notes),
            tuple(self.outputs),
            self.not_rechecked,
            self.corrected_not_rechecked,
        )


@shows_progress()
def verify(
    directory: str | os.PathLike[str],
    *,
    model: ModelLike | None = None,
    inputs: Inputs | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    recheck: float | None = None,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    progress: ProgressLike = silent,
) -> VerifyReport:
    """Check an output directory; parameters are those of :func:`inspect`.

    Raises
    ------
    VerificationError
        If anything is wrong; its message holds every problem.
    InputError
        If there is nothing to check: no directory, no readable manifest, an unusable model.
    """
    report = inspect(
        directory,
        model=model,
        inputs=inputs,
        dims=dims,
        seed=seed,
        recheck=recheck,
        custom_ops=custom_ops,
        progress=progress,
    )
    if not report.ok:
        raise VerificationError(f"{report.directory}: {'; '.join(report.problems)}")
    return report


@shows_progress()
def inspect(
    directory: str | os.PathLike[str],
    *,
    model: ModelLike | None = None,
    inputs: Inputs | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    recheck: float | None = None,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    progress: ProgressLike = silent,
) -> VerifyReport:
    """Check an output directory and collect every problem.

    Parameters
    ----------
    directory : path-like
    model : path-like, onnx.ModelProto or onnx_ir.Model, optional
        The unsplit model, in whichever form; its outputs are compared with those of the chained stages.
    inputs : path-like or mapping, optional
        An ``.npz`` file or arrays to compare on; seeded random ones by default.
    dims : mapping of str to int, optional
        Symbolic dimensions of random inputs; the manifest's by default.
    seed : int
        Seed of random inputs.
    recheck : float, optional
        Prove the lower bound again, for at most this many seconds from each end of the graph.
    custom_ops : sequence of path-like
        Libraries of custom operators for onnxruntime.
    progress : Progress

    Raises
    ------
    InputError
        If there is nothing to check.
    """
    path = Path(directory)
    found = _Findings()
    if path.is_file():
        if model is not None:
            raise UsageError("a plan has no stages to compare with a model", "give the folder of a split")
        stages, verdict = check_plan(path, recheck)
        found.certificate(verdict)
        return found.report(path, stages)
    document = manifest.read_alone(path)
    progress("verify", 0.0, "files")
    whole = found.add("files and hashes", check_files(path, document))
    sound = found.add("wiring", contradictions(document)) and whole
    if whole:
        progress("verify", 0.2, "stages")
        found.add("stage models", check_stages(path, document))
    progress("verify", 0.4, "certificate")
    graph = _costs(path, found)
    if graph is not None:
        _check_costs(path, document, graph, recheck, found, whole=whole)
    if model is not None and sound and graph is not None:
        progress("verify", 0.6, "outputs")
        from onnx_pipeline.model.dimensions import unranked
        from onnx_pipeline.verification.outputs import compare_outputs, random_inputs, read_inputs

        source = load(model, custom_ops)
        arrays = None if inputs is None else read_inputs(source, inputs)
        if arrays is None and unranked(source):
            arrays = random_inputs(source, document, dims, seed)
        if found.add("model", check_model(source, document, graph, arrays)):
            arrays = random_inputs(source, document, dims, seed) if arrays is None else arrays
            checks, problems, notes = compare_outputs(path, document, source, arrays)
            found.outputs += checks
            found.notes += notes
            found.add("outputs", problems)
    progress("verify", 1.0, "done")
    return found.report(path, len(document.stages))


def _costs(folder: Path, found: _Findings) -> CostGraph | None:
    """Read the costs; without them nothing can be recomputed."""
    path = folder / manifest.COSTS_NAME
    try:
        if path.exists() and not path.is_file():
            raise InputError(path, "not a file")
        return read_graph(path)
    except InputError as error:
        found.add("certificate", [str(error)])
        return None


def _check_costs(
    folder: Path,
    document: manifest.Manifest,
    graph: CostGraph,
    recheck: float | None,
    found: _Findings,
    *,
    whole: bool,
) -> None:
    """Check the certificate, that the files have the nodes that it is about, and what measurements added."""
    claim = claim_of(document.to_json())
    verdict = check_claim(graph, claim, recheck)
    sound = not verdict.problems
    if whole:
        verdict.problems += check_nodes(folder, document, graph)
    found.certificate(verdict)
    if sound and document.measurement is not None:
        found.measurement(check_measured(folder, document, graph, claim, recheck))
