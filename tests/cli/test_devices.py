"""``--devices``: stages and replicas planned, written, shown and verified; what excludes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from models import builders
from onnx_pipeline.cli.entry import main
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.graph.ticks import NS
from tests.outcome import Outcome, Run

QUICK = ["--time-limit", "2", "--threads", "1"]
#: A device holds one node and its tensors.
HARD = ["--device", "ideal", "--memory", "1.1MB", "--memory-mode", "hard"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in a folder with ``costs.json``: 30, 10, 10 and 30 ms, 1 MB of parameters each."""
    builder = GraphBuilder("chain", ticks_per_second=NS)
    builder.add_net("x", HOST, [0], nbytes=1000)
    for i, work in enumerate((30, 10, 10, 30)):
        builder.add_node(f"v{i}", work * 1_000_000)
        builder.add_net(f"t{i}", i, [i + 1] if i < 3 else [], nbytes=1000, to_host=i == 3)
        builder.add_group(f"w{i}", 1_000_000, [i])
    write_graph(builder.build(), tmp_path / "costs.json")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


def lines_of(outcome: Outcome) -> dict[str, str]:
    """The lines below the tables by their labels."""
    return {line.split()[0]: " ".join(line.split()[1:]) for line in outcome.out.splitlines() if line}


def test_the_table_of_a_mix(run: Run) -> None:
    """Replicas, cost, period, load and memory of every stage; three ways to use the devices; why this one."""
    outcome = run("plan", "costs.json", "--devices", 8, *HARD, *QUICK, "-q")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("costs.json: 4 stages on 8 devices (ideal), 1.05 MiB memory")
    assert lines[1].split()[4:] == ["memory", "cost", "devices", "period", "load"]
    assert [line.count("30.0 ms        3  10.0 ms") for line in lines[3:7]] == [1, 0, 0, 1]
    assert [line.count("10.0 ms        1  10.0 ms") for line in lines[3:7]] == [0, 1, 1, 0]
    assert all(" 979 KiB " in line for line in lines[3:7])
    found = lines_of(outcome)
    assert found["whole"].startswith("replicas 8 of the whole model does not fit")
    assert found["stages"].startswith("2 replicas of 4 stages 66.7/s 80.0 ms")
    assert found["mix"].startswith("4 stages on 3 + 1 + 1 + 3 devices 100/s 80.0 ms")
    assert found["period"] == "10.0 ms, 100 inferences/s"
    assert found["devices"] == "8 of 8 used"
    assert found["why"] == (
        "A replica of the whole model needs 3.82 MiB, more than the 1.05 MiB of a device; 4 stages on 3, 1, "
        "1 and 3 devices serve 100/s, 1.5 times what 2 replicas of 4 stages would."
    )
    assert found["gap"].startswith("0 %: proved optimal among all stages and replicas on 8 devices")


def test_whole_replicas_are_said_to_be_optimal(run: Run) -> None:
    """Where a device holds the model; what stages would do is there all the same."""
    outcome = run("plan", "costs.json", "--devices", 8, "--device", "ideal", *QUICK)
    found = lines_of(outcome)
    assert found["why"].startswith("A device holds the whole model, so 8 replicas of it are optimal")
    assert found["whole"] == "replicas 8 of the whole model 100/s 80.0 ms 3.82 MiB"
    assert found["stages"].split(" 80.0 ms")[0] in (
        "2 replicas of 4 stages 66.7/s",
        "4 replicas of 2 stages 100/s",
    )
    assert found["mix"] == "8 replicas of the whole model 100/s 80.0 ms 3.82 MiB"


def test_the_plan_file(run: Run) -> None:
    """Replicas, devices and problem are in it; show prints it again, verify proves it again."""
    planned = run("plan", "costs.json", "--devices", 9, *HARD, *QUICK, "-o", "plan.json")
    document = json.loads(Path("plan.json").read_text())
    assert [stage["replicas"] for stage in document["stages"]] == [3, 1, 1, 3]
    assert document["target"]["devices"] == 9
    assert document["certificate"]["bottleneck_seconds"] == pytest.approx(0.01)
    assert document["certificate"]["problem"] == {
        "objective": "period",
        "devices": 9,
        "replicas": True,
        "stages_per_device": 1,
        "order": "identical",
    }
    assert "8 of 9 used; another one would not shorten the period" in planned.out
    shown = run("show", "plan.json")
    assert shown.out.splitlines()[:-1] == planned.out.splitlines()[: len(shown.out.splitlines()) - 1]
    assert run("verify", "plan.json", "--recheck", 5).out.split()[-2:] == ["certificate", "ok"]
    assert run("show", "plan.json", "--cuts").code == 0


def test_a_split_with_replicas(run: Run) -> None:
    """From a model to stages with replicas; its manifest shows and verifies, with outputs."""
    onnx.save(builders.mlp(), "mlp.onnx")
    memory = ["--memory", "3KB", "--memory-mode", "hard", "--no-activations", "--device", "ideal"]
    outcome = run("split", "mlp.onnx", "--devices", 5, "--cost-model", "analytic", *memory, *QUICK)
    assert outcome.code == 0, outcome.err
    assert outcome.out.endswith("written to mlp-n5\n")
    document = json.loads(Path("mlp-n5/manifest.json").read_text())
    assert document["target"]["devices"] == 5
    assert 1 < len(document["stages"]) <= 5
    assert sum(stage.get("replicas", 1) for stage in document["stages"]) <= 5
    assert run("verify", "mlp-n5", "--model", "mlp.onnx", "--recheck", 5).code == 0
    assert "why" in lines_of(run("show", "mlp-n5"))


def test_plain_certificates_name_their_problem(run: Run) -> None:
    """``-k`` plans stages, one on each device."""
    run("plan", "costs.json", "-k", 3, *QUICK, "-o", "plan.json")
    document = json.loads(Path("plan.json").read_text())
    assert document["certificate"]["problem"] == {
        "objective": "bottleneck",
        "devices": 3,
        "replicas": False,
        "stages_per_device": 1,
        "order": "identical",
    }
    assert not any("replicas" in stage for stage in document["stages"])
    assert "devices" not in document["target"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-k", "2", "--devices", "4"], "--stages and --devices exclude each other: give one of them"),
        ([], "Missing option '-k' / '--stages', '--devices' or '--fleet'"),
        (["--devices", "4", "--exactly"], "devices and exactly exclude each other; give --stages K"),
        (["--devices", "4", "--bounds", "simple"], "devices and bounds exclude each other"),
        (["--devices", "4", "--log", "x.csv"], "devices and log exclude each other"),
        (["--devices", "4", "--partition", "x.csv"], "x.csv"),
        (["--devices", "4", "--perturb", "0.1"], "--perturb is for a number of stages; give -k K"),
        (["--devices", "0"], "Invalid value for '--devices'"),
    ],
)
def test_what_excludes_devices(options: list[str], said: str, run: Run) -> None:
    """One line, before any work."""
    outcome = run("plan", "costs.json", *options)
    assert outcome.code in (2, 3)
    assert said in outcome.err
    assert outcome.out == ""


def test_the_command_line_wins_over_a_file(run: Run) -> None:
    """A file that names stages does not exclude devices on the command line, and the other way round."""
    Path("c.toml").write_text("stages = 3\n")
    document = run("plan", "costs.json", "--devices", 2, "--config", "c.toml", "--json", *QUICK).document
    assert document["target"]["devices"] == 2
    Path("c.toml").write_text("stages = 3\ndevices = 4\n")
    assert "exclude each other" in run("plan", "costs.json", "--config", "c.toml").err


def test_numbers_of_devices(run: Run) -> None:
    """A line for each number with the devices of its stages; the fewest for a rate, and why not fewer."""
    outcome = run("explore", "costs.json", "--devices", "1-9", "--for-rate", 60, *HARD, *QUICK, "-q")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    rows = [" ".join(line.split()) for line in lines[3:7]]
    assert rows == [
        "1-3 does not fit",
        "4-5 30.0 ms 33.3/s 80.0 ms 30.0 ms 0 % 979 KiB 4 on 1+1+1+1",
        "6-7 15.0 ms 66.7/s 80.0 ms 15.0 ms 0 % 979 KiB 4 on 2+1+1+2",
        "8-9 10.0 ms 100/s 80.0 ms 10.0 ms 0 % 979 KiB 4 on 3+1+1+3",
    ]
    assert all(len(line) <= 80 for line in lines[:7])
    assert lines[7] == (
        "devices   60/s: 6 devices (66.7 inferences/s); 5 devices cannot: at best a request every 30.0 ms"
    )
    assert lines_of(outcome)["used"] == "8 devices at most; others stay idle"


def test_the_front(run: Run) -> None:
    """Numbers that bring nothing over fewer devices are left out, also of the document; plan has it, too."""
    outcome = run("plan", "costs.json", "--devices", 9, "--front", *HARD, "--json", *QUICK)
    rows = outcome.document["rows"]
    assert [row["devices"] for row in rows] == [4, 6, 8]
    assert [row["replicas"] for row in rows] == [[1, 1, 1, 1], [2, 1, 1, 2], [3, 1, 1, 3]]
    assert {row["status"] for row in rows} == {"optimal"}
    same = run("explore", "costs.json", "--devices", 9, "--front", *HARD, *QUICK)
    assert [line.split()[0] for line in same.out.splitlines()[3:6]] == ["4", "6", "8"]
    assert run("explore", "costs.json", "-k", "1-4", "--front", *QUICK).code == 2
    assert run("plan", "costs.json", "-k", 4, "--front", *QUICK).code == 2


def test_the_front_keeps_what_the_answer_says(run: Run) -> None:
    """What is proved of fewer devices is about all of them, shown or not."""
    outcome = run("explore", "costs.json", "--devices", 9, "--front", "--for-rate", 99, *HARD, *QUICK)
    assert (
        "99/s: 8 devices (100 inferences/s); 7 devices cannot: at best a request every 15.0 ms" in outcome.out
    )
    never = run("explore", "costs.json", "--devices", "1-3", "--for-rate", 99, *HARD, *QUICK)
    assert never.code == 4
    assert "3 devices cannot: no partition fits; ask for less, or give more --devices" in never.err
    answer = run("explore", "costs.json", "--devices", "1-9", "--fit", "1.1MB", "--json", *QUICK).document
    assert answer["answers"][0] | {"devices": 4, "fewest": True, "proof": "memory"} == answer["answers"][0]
    assert "stages" not in answer["answers"][0]


def test_split_takes_the_fewest_devices(run: Run) -> None:
    """Of several numbers of devices the fewest that reach the goal."""
    onnx.save(builders.mlp(), "mlp.onnx")
    memory = ["--memory", "3KB", "--memory-mode", "hard", "--no-activations", "--device", "ideal"]
    common = ["--cost-model", "analytic", *memory, *QUICK]
    slow = run("split", "mlp.onnx", "--devices", "1-4", "--for-rate", "1", "-o", "slow", *common)
    assert slow.code == 0, slow.err
    assert "2 devices (" in slow.err
    assert "1 device cannot: no partition fits" in slow.err
    assert json.loads(Path("slow/manifest.json").read_text())["target"]["devices"] == 2
    refused = run("split", "mlp.onnx", "--devices", "1-4", *common)
    assert refused.code == 2
    assert "one number of stages or devices" in refused.err


def forge(document: dict[str, Any], path: str, value: Any) -> None:
    """Set one place of a document; None deletes it."""
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
    place: Any = document
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    elif value is False and last == "staged":
        place[last] = None
    else:
        place[last] = value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stages.0.replicas": 2}, "stage 3 has 3 devices, where the plan's period takes"),
        ({"stages.1.replicas": 2}, "stage 1 has 2 devices, where the plan's period takes 1"),
        ({"stages.0.replicas": 5}, "the stages take 10 devices, there are 9"),
        ({"target.devices": 8}, "problem should be"),
        ({"target.devices": None}, "a plan with replicas lacks its 'devices'"),
        ({"certificate.bottleneck_seconds": 0.009}, "bottleneck_seconds should be"),
        ({"certificate.lower_bound_seconds": 0.0105}, "lower_bound_seconds should be"),
        ({"certificate.latency_seconds": 0.01}, "latency_seconds should be"),
        ({"certificate.problem.devices": 10}, "problem should be"),
        ({"certificate.problem.replicas": False}, "problem should be"),
        ({"certificate.problem": None}, "does not name its problem"),
        ({"certificate.bounds.0.seconds": 0.005}, "by its ticks, not 0.005 s"),
        ({"certificate.bounds.0.method": "simple"}, "the simple bound cannot be reproduced"),
        ({"certificate.bounds.0.method": "min-cut"}, "there is no bound 'min-cut' of a period"),
        ({"certificate.bounds.0.ticks": 10**9}, "above the period"),
        ({"certificate.staged.period_seconds": 0.001}, "staged should be"),
        ({"certificate.staged.period_seconds": 0.02}, "staged should be"),
        ({"certificate.staged": False}, "is not said, though stages fit"),
        ({"certificate.staged.replicas": 7}, "staged should be"),
        ({"certificate.staged.stage_of": [0, 1]}, "stage_of of 'staged' is not of these nodes"),
        ({"certificate.staged.stage_of": [1, 0, 2, 3]}, "staged: "),
        ({"certificate.replicas": None}, "a plan with replicas lacks its 'replicas'"),
        ({"certificate.status": "feasible"}, "status should be 'optimal'"),
    ],
)
def test_forgeries_are_refused(changes: dict[str, Any], said: str, run: Run) -> None:
    """Replicas, period, problem, bounds and what others would do."""
    run("plan", "costs.json", "--devices", 9, *HARD, *QUICK, "-o", "plan.json")
    document = json.loads(Path("plan.json").read_text())
    for path, value in changes.items():
        forge(document, path, value)
    Path("plan.json").write_text(json.dumps(document))
    outcome = run("verify", "plan.json")
    assert outcome.code in (3, 5), outcome.out
    assert said in outcome.err


def test_a_bound_that_is_too_high_is_not_proved_again(run: Run) -> None:
    """The ideal search finds something below it, or nothing that proves it."""
    run("plan", "costs.json", "--devices", 7, *HARD, *QUICK, "-o", "plan.json")
    document = json.loads(Path("plan.json").read_text())
    # Three, one, one and two devices: 15 ms. Give the last stage one less and call it optimal.
    assert [stage["replicas"] for stage in document["stages"]] == [2, 1, 1, 2]
    certificate = document["certificate"]
    document["target"]["devices"] = certificate["problem"]["devices"] = 8
    certificate["staged"] |= {"replicas": 2, "period_seconds": 0.015}
    certificate["replicas"]["rate_per_second"] = None
    Path("plan.json").write_text(json.dumps(document))
    assert run("verify", "plan.json").code == 0  # nobody can tell without another proof
    outcome = run("verify", "plan.json", "--recheck", 5)
    assert outcome.code == 5
    assert "stages with replicas below the bound of 0.015 s exist" in outcome.err


def test_stages_with_replicas_are_measured(run: Run) -> None:
    """Their times are in the manifest, the slowest is that of the longest period; nothing else is tried."""
    onnx.save(builders.mlp(width=64), "mlp.onnx")
    memory = ["--memory", "40KB", "--memory-mode", "hard", "--no-activations", "--device", "ideal"]
    outcome = run(
        "split",
        "mlp.onnx",
        "--devices",
        6,
        "--cost-model",
        "analytic",
        "--measure",
        1,
        *memory,
        *QUICK,
        "-o",
        "out",
    )
    assert outcome.code == 0, outcome.err
    document = json.loads(Path("out/manifest.json").read_text())
    summary, stages = document["measurement"], document["stages"]
    assert summary["outcome"] in ("measured", "noisy")
    assert summary["candidates"] == 1
    assert "corrected" not in summary
    periods = [stage["measured"]["seconds"] / stage.get("replicas", 1) for stage in stages]
    assert summary["bottleneck_seconds"] == max(periods)
    assert any(stage.get("replicas", 1) > 1 for stage in stages)
    assert run("verify", "out").code == 0
    summary["bottleneck_seconds"] *= 2
    Path("out/manifest.json").write_text(json.dumps(document))
    assert "bottleneck_seconds is not that of the slowest stage" in run("verify", "out").err
