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
from onnx_pipeline.errors import VerificationError
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.verification.claims import check_certificate
from onnx_pipeline.verification.compare import OutputCheck
from onnx_pipeline.verification.contents import check_files, check_stages

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
    """

    directory: str
    stages: int
    checks: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    outputs: tuple[OutputCheck, ...] = ()

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

    def add(self, check: str, problems: Iterable[str]) -> bool:
        """Record a check; return whether it found nothing."""
        found = list(problems)
        self.checks.append(check)
        self.problems += found
        return not found


def verify(
    directory: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    inputs: Inputs | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    recheck: float | None = None,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    progress: Progress = silent,
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


def inspect(
    directory: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    inputs: Inputs | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    recheck: float | None = None,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    progress: Progress = silent,
) -> VerifyReport:
    """Check an output directory and collect every problem.

    Parameters
    ----------
    directory : path-like
    model : path-like, optional
        The unsplit model; its outputs are compared with those of the chained stages.
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
    folder = Path(directory)
    document = manifest.read_alone(folder)
    found = _Findings()
    progress("verify", 0.0, "files")
    whole = found.add("files and hashes", check_files(folder, document))
    wired = found.add("wiring", contradictions(document))
    if whole:
        progress("verify", 0.2, "stages")
        found.add("stage models", check_stages(folder, document))
    progress("verify", 0.4, "certificate")
    found.add("certificate", check_certificate(folder, document, recheck))
    if model is not None and whole and wired:
        progress("verify", 0.6, "outputs")
        from onnx_pipeline.verification.outputs import compare_outputs

        checks, problems, notes = compare_outputs(
            folder, document, Path(model), inputs, dims, seed, custom_ops
        )
        found.outputs += checks
        found.notes += notes
        found.add("outputs", problems)
    progress("verify", 1.0, "done")
    return VerifyReport(
        str(folder),
        len(document.stages),
        tuple(found.checks),
        tuple(found.problems),
        tuple(found.notes),
        tuple(found.outputs),
    )
