"""What a split says of its measured stages: everything that can be recomputed is, forgeries are refused."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models import builders
from onnx_pipeline import manifest
from onnx_pipeline.cli.tables import show_verification
from onnx_pipeline.emission.emit import emit
from onnx_pipeline.graph.target import Target
from onnx_pipeline.manifest import MEASURED_COSTS_NAME
from onnx_pipeline.measurement.chain import Rows
from onnx_pipeline.measurement.closed_loop import ClosedLoop
from onnx_pipeline.measurement.improve import describe, operator_kinds
from onnx_pipeline.parameters import ProfileParams
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.result import PartitionResult
from onnx_pipeline.price import price
from onnx_pipeline.verification.checks import VerifyReport, inspect

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split whose partition another one beat: the first half of the model is dearer than it was priced."""
    folder = tmp_path_factory.mktemp("measured")
    onnx.save(builders.mlp(layers=12, width=64), folder / "m.onnx")
    priced = price(folder / "m.onnx", ProfileParams("analytic"))
    graph, target = priced.graph, Target(stage_overhead=1e-9)
    truth = graph.work / graph.ticks_per_second * np.linspace(1.5, 0.5, graph.num_nodes)
    emitted: dict[Path, PartitionResult] = {}

    def take(places: Sequence[Path], whole: bool) -> list[Rows]:
        each = (np.bincount(emitted[place].stage_of, weights=truth) for place in places)
        drift = np.linspace(1, 1.01, 12)
        assert whole == (len(places) == 1)
        return [Rows(truth.sum() * drift, sums * drift[:, None]) for sums in each]

    def repartition(graph: Any) -> PartitionResult:
        return partition(graph, 2, target, time_limit=5, threads=1)

    def emit_to(result: PartitionResult, place: Path) -> None:
        emitted[place] = result

    kinds = operator_kinds(priced.source, graph)
    found = ClosedLoop(emit_to, repartition, take, folder, kinds).run(repartition(graph))
    assert found is not None
    assert found.outcome == "improved"
    out = folder / "out"
    emit(priced.source, priced.infos, found.result, {}, out, describe=partial(describe, found=found))
    return out


@pytest.fixture
def out(measured: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    (tmp_path / "out").mkdir()
    for file in measured.iterdir():
        (tmp_path / "out" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "out"


def edit(file: Path, change: Change) -> None:
    """Change a JSON document."""
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def bind(out: Path) -> None:
    """State the hash of the corrected costs, as a forger would."""
    digest = hashlib.sha256((out / MEASURED_COSTS_NAME).read_bytes()).hexdigest()
    edit(out / "manifest.json", lambda d: d["measurement"]["corrected"].update(sha256=digest))


def problem(report: VerifyReport) -> str:
    """Return the only problem."""
    (line,) = report.problems
    return line


def test_both_claims_hold(measured: Path) -> None:
    """The certificate is of the profiled costs, the other of the corrected ones; both are proved again."""
    document = manifest.read(measured)
    summary = document.measurement
    assert summary is not None
    assert document.certificate["costs"] == "analytic"
    assert document.certificate["status"] == "feasible"
    times = summary["candidates"]
    assert summary["corrected"]["costs"] == f"analytic, corrected by {times} measurements of the stages"
    assert summary["corrected"]["gap"] < 0.02 < document.certificate["gap"]
    report = inspect(measured, recheck=5.0)
    assert report.ok, report.problems
    assert report.checks[-2:] == ("certificate", "measurement")
    assert report.corrected_not_rechecked is None
    unproved = replace(report, corrected_not_rechecked="ideals")
    stream = io.StringIO()
    show_verification(unproved, stream)
    assert re.search("measurement +ok, but the ideals bound was not rechecked", stream.getvalue())


def _lower(document: dict[str, Any]) -> None:
    corrected = document["measurement"]["corrected"]
    for bound in corrected["bounds"]:
        bound["seconds"] *= 1.2
    corrected["lower_bound_seconds"] *= 1.2


def _stage(document: dict[str, Any]) -> None:
    document["measurement"]["corrected"]["stages"][1]["work_seconds"] *= 0.9


def _predicted(document: dict[str, Any]) -> None:
    measured = document["stages"][0]["measured"]
    measured["predicted_seconds"] *= 0.99


def _both(document: dict[str, Any]) -> None:
    _predicted(document)
    predicted = max(stage["measured"]["predicted_seconds"] for stage in document["stages"])
    document["measurement"]["predicted_bottleneck_seconds"] = predicted


def measurement(**changes: Any) -> Change:
    """Set fields of the measurement."""
    return lambda document: document["measurement"].update(changes)


def corrected(**changes: Any) -> Change:
    """Set fields of the corrected certificate."""
    return lambda document: document["measurement"]["corrected"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lower, "corrected certificate: bound"),
        (_stage, "corrected certificate: the cost of stage 1 cannot be reproduced"),
        (corrected(gap=0.5), "corrected certificate: gap should be"),
        (corrected(status="feasible"), "corrected certificate: status should be 'optimal'"),
        (corrected(bottleneck_seconds=1e-6), "corrected certificate: bottleneck_seconds should be"),
        (corrected(costs="analytic"), "corrected certificate: costs should be"),
        (corrected(stages=[]), "the corrected costs are not those of these stages"),
        (corrected(sha256="0" * 64), "its SHA-256 differs"),
        (_predicted, "the prediction of stage 0 is not that of the costs"),
        (_both, "the prediction of stage 0 is not that of the costs"),
        (measurement(bottleneck_seconds=1e-9), "bottleneck_seconds is not that of the slowest stage"),
        (measurement(predicted_bottleneck_seconds=1e-9), "predicted_bottleneck_seconds is not that"),
        (measurement(outcome="confirmed"), "'faster' and the outcome contradict each other"),
        (lambda document: document["measurement"].pop("faster"), "'faster' and the outcome contradict"),
    ],
)
def test_forged_measurements_are_refused(out: Path, change: Change, message: str) -> None:
    """Every figure that can be recomputed is."""
    edit(out / "manifest.json", change)
    assert any(message in line for line in inspect(out).problems)


def test_a_noisy_machine_corrects_nothing(out: Path) -> None:
    """Nor is a claim made in such costs."""
    edit(out / "manifest.json", lambda d: d["measurement"].pop("faster"))
    edit(out / "manifest.json", measurement(outcome="noisy"))
    assert "on a machine that is too noisy" in problem(inspect(out))


def test_manifests_of_older_releases(out: Path) -> None:
    """They have one certificate, in corrected costs, and predictions by costs that nobody kept."""

    def older(document: dict[str, Any]) -> None:
        summary = document["measurement"]
        for key in ("outcome", "faster", "corrected"):
            del summary[key]
        for stage in document["stages"]:
            stage["measured"]["predicted_seconds"] *= 1.1
        summary["predicted_bottleneck_seconds"] *= 1.1

    edit(out / "manifest.json", older)
    assert inspect(out).ok


def _cheaper(document: dict[str, Any]) -> None:
    for node in document["nodes"]:
        node["work_ns"] *= 0.9


def _smaller(document: dict[str, Any]) -> None:
    for tensor in document["tensors"]:
        tensor["bytes"] //= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_cheaper, "corrected certificate"),
        (_smaller, "differs from the costs in more than work"),
        (lambda document: document["parameters"].clear(), "differs from the costs in more than work"),
    ],
)
def test_forged_corrected_costs_are_refused(out: Path, change: Change, message: str) -> None:
    """With the hash and without: only work may be corrected, and what is claimed follows from it."""
    edit(out / MEASURED_COSTS_NAME, change)
    assert "its SHA-256 differs" in problem(inspect(out))
    bind(out)
    assert any(message in line for line in inspect(out).problems)


@pytest.mark.parametrize("kind", ["missing", "folder", "text"])
def test_corrected_costs_that_cannot_be_read(out: Path, kind: str) -> None:
    """One line, no traceback."""
    file = out / MEASURED_COSTS_NAME
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "text":
        file.write_text("no JSON")
        bind(out)
    messages = {"missing": "no such file", "folder": "not a file", "text": "not valid JSON"}
    assert messages[kind] in problem(inspect(out))


def test_a_false_bound_is_found_by_proving_again(out: Path) -> None:
    """A solver's claim below the partition is only refused by a new proof, as in the certificate."""

    def claim(document: dict[str, Any]) -> None:
        found = document["measurement"]["corrected"]
        value = found["bottleneck_seconds"]
        found["bounds"] = [{"method": "cp-sat", "seconds": value, "solver": "x", "wall_seconds": 0.0}]
        found |= {"lower_bound_seconds": value, "ratio": 1.0, "gap": 0.0, "status": "optimal"}

    edit(out / MEASURED_COSTS_NAME, lambda d: d["nodes"][-1].update(work_ns=d["nodes"][-1]["work_ns"] * 3))
    bind(out)
    report = inspect(out)
    assert not report.ok
    edit(out / "manifest.json", claim)
    assert not inspect(out, recheck=5.0).ok
