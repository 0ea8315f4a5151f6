"""``--partition FILE``: a user's own stages against the bound, and written as they are."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from models import builders
from onnx_pipeline.cli.entry import main
from tests.outcome import Outcome, Run

QUICK = ("--time-limit", 2, "--threads", 1, "--bandwidth", "inf")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line beside ``mlp.onnx``, its ``costs.json`` and a lopsided ``mine.csv``."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    onnx.save(builders.mlp(), "mlp.onnx")
    assert call("profile", "mlp.onnx", "--cost-model", "analytic", "-o", "costs.json").code == 0
    (tmp_path / "mine.csv").write_text("".join(f"{name},{home}\n" for name, home in mine()), encoding="utf-8")
    return call


def mine() -> list[tuple[str, object]]:
    """The rows of ``mine.csv``: one node, then all others."""
    names = [node["name"] for node in json.loads(Path("costs.json").read_text(encoding="utf-8"))["nodes"]]
    return [("name", "stage"), (names[0], 0), *((name, 1) for name in names[1:])]


def test_plan_holds_it_against_the_bound(run: Run) -> None:
    """Table, bound and gap as of any plan; what searching would bring is said on stderr."""
    best = run("plan", "costs.json", "-k", 2, "--json", *QUICK).document["certificate"]
    outcome = run("plan", "costs.json", "-k", 2, "--partition", "mine.csv", "-o", "plan.json", *QUICK)
    assert outcome.code == 0
    assert "lower bound" in outcome.out
    assert "no partition is better by more than this" in outcome.out
    assert "% shorter bottleneck exists; plan without --partition FILE to get it" in outcome.err
    written = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    assert [stage["nodes"] for stage in written["stages"]] == [1, len(mine()) - 2]
    certificate = written["certificate"]
    assert certificate["lower_bound_seconds"] == best["lower_bound_seconds"]
    assert certificate["bottleneck_seconds"] > best["bottleneck_seconds"]
    assert run("verify", "plan.json").code == 0
    again = run("plan", "costs.json", "-k", 2, "--partition", "plan.json", "--json", *QUICK).document
    assert again["certificate"]["bottleneck_seconds"] == certificate["bottleneck_seconds"]


def test_split_writes_exactly_these_stages(run: Run) -> None:
    """Costs from a file, too: the outcome verifies."""
    common = ("mlp.onnx", "-k", 2, "--cost-model", "costs.json", *QUICK)
    outcome = run("split", *common, "--partition", "mine.csv", "-o", "out", "--json")
    assert outcome.code == 0
    homes = [(name, stage["index"]) for stage in outcome.document["stages"] for name in stage["node_names"]]
    assert dict(homes) == dict(mine()[1:])
    assert outcome.document["search"]["methods"] == ["given"]
    assert run("verify", "out", "--model", "mlp.onnx").code == 0
    again = run("split", *common, "--partition", "out", "-o", "again", "--json")
    assert [stage["node_names"] for stage in again.document["stages"]] == [
        stage["node_names"] for stage in outcome.document["stages"]
    ]


def test_measuring_does_not_move_a_node(run: Run) -> None:
    """The closed loop corrects the costs of the stages, and leaves them as they are."""
    outcome = run(
        "split",
        "mlp.onnx",
        "-k",
        2,
        "--partition",
        "mine.csv",
        "--measure",
        1,
        "--profile-runs",
        2,
        "--json",
        *QUICK,
    )
    assert outcome.code == 0
    homes = [(name, stage["index"]) for stage in outcome.document["stages"] for name in stage["node_names"]]
    assert dict(homes) == dict(mine()[1:])
    assert all("measured" in stage for stage in outcome.document["stages"])


def test_errors_name_file_node_and_remedy(run: Run) -> None:
    """One line; nothing is written, and a missing file is noticed before any work."""
    rows = mine()
    Path("back.csv").write_text(
        "\n".join(["name,stage", f"{rows[1][0]},1", *(f"{name},0" for name, _ in rows[2:])]), encoding="utf-8"
    )
    outcome = run("plan", "costs.json", "-k", 2, "--partition", "back.csv", "-o", "plan.json")
    assert outcome.code == 3
    (line,) = outcome.err.splitlines()
    assert line.startswith("onnx-pipeline: error: back.csv: not a partition: tensor")
    assert f"flows back from node '{rows[1][0]}' in stage 1 to node '{rows[2][0]}' in stage 0; move" in line
    assert not Path("plan.json").exists()
    Path("three.json").write_text(json.dumps({name: 2 for name, _ in rows[1:]}), encoding="utf-8")
    outcome = run("plan", "costs.json", "-k", 2, "--partition", "three.json")
    assert outcome.code == 3
    assert "stages count from 0; give --stages 3" in outcome.err
    outcome = run("split", "mlp.onnx", "-k", 3, "--partition", "three.json", "--cost-model", "analytic")
    assert outcome.code == 2
    assert "stage 0 of the partition is empty; number its stages without gaps" in outcome.err
    outcome = run("split", "absent.onnx", "-k", 2, "--partition", "absent.csv")
    assert outcome.code == 3
    assert "absent.csv: cannot be read" in outcome.err


def test_the_number_of_stages_may_be_left_out(run: Run) -> None:
    """It is that of the file, for the directory's name, too; without either it is asked for."""
    outcome = run("plan", "costs.json", "--partition", "mine.csv", "--json", *QUICK)
    assert outcome.document["target"]["stages"] == 2
    assert run("split", "mlp.onnx", "--partition", "mine.csv", "--cost-model", "costs.json", *QUICK).code == 0
    assert len(list(Path("mlp-k2").glob("stage_*.onnx"))) == 2
    Path("odd.json").write_text('{"a": "first"}', encoding="utf-8")
    outcome = run("plan", "costs.json", "--partition", "odd.json")
    assert outcome.code == 3
    assert "odd.json: the stage of node 'a' must be a whole number from 0, got 'first'" in outcome.err
    Path("empty").mkdir()
    assert "empty/manifest.json: cannot be read" in run("plan", "costs.json", "--partition", "empty").err
    outcome = run("plan", "costs.json")
    assert outcome.code == 2
    assert "Missing option '-k' / '--stages'" in outcome.err


def test_one_number_of_stages(run: Run) -> None:
    """A partition is not one of several, nor the fewest stages that reach a goal."""
    outcome = run("plan", "costs.json", "-k", "2,3", "--partition", "mine.csv")
    assert outcome.code == 2
    assert "--perturb, --log and --partition need one number of stages" in outcome.err
    for more in (["-k", "2-3"], ["-k", "2", "--for-rate", "100"]):
        outcome = run("split", "mlp.onnx", *more, "--partition", "mine.csv")
        assert outcome.code == 2
        assert "--partition has its number of stages: give -k K, and no goals" in outcome.err
    assert run("plan", "costs.json", "-k", "1,2", *QUICK).code == 0
