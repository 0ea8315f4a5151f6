"""``explore``, and lists of stages in ``plan`` and ``split``: tables, answers, files and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from models import builders
from onnx_pipeline.cli import explore_tables
from onnx_pipeline.cli.entry import main
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.sizing import Whole
from tests.outcome import Outcome, Run

QUICK = ["--time-limit", "2", "--threads", "1"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in a folder with ``costs.json``: four nodes of 10 ms and 1 MB of parameters."""
    builder = GraphBuilder("chain", ticks_per_second=NS)
    builder.add_net("x", HOST, [0], nbytes=1000)
    for i in range(4):
        builder.add_node(f"v{i}", 10_000_000)
        builder.add_net(f"t{i}", i, [i + 1] if i < 3 else [], nbytes=1000, to_host=i == 3)
        builder.add_group(f"w{i}", 1_000_000, [i])
    write_graph(builder.build(), tmp_path / "costs.json")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


def test_table(run: Run) -> None:
    """One line for each number of stages, equal ones together, within 80 columns; replicas below."""
    outcome = run("explore", "costs.json", "--device", "ideal", *QUICK)
    assert outcome.code == 0
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines[0] == "costs.json on ideal: unlimited links, unlimited memory"
    assert [line.split()[0] for line in lines[3:6]] == ["1", "2-3", "4-64"]
    assert " ".join(lines[3].split()) == "1 40.0 ms 25/s 40.0 ms 40.0 ms 0 % 3.82 MiB 1.00 x"
    assert all(len(line) <= 80 for line in lines[:6])
    assert "used      4 stages at most; others stay empty" in lines
    (replicas,) = [line for line in lines if line.startswith("replicas")]
    assert "25 inferences/s" in replicas
    assert replicas.endswith("; always faster than the pipeline")


@pytest.mark.parametrize(
    ("gains", "text"),
    [
        ({1: 1.0}, ""),
        ({1: 1.0, 2: 2.5, 3: 3.1}, "; always slower than the pipeline"),
        ({2: 1.5, 3: 3.1, 4: 3.2}, "; the pipeline is faster in 1 of 3 rows: speed-up above stages"),
    ],
)
def test_replicas_or_a_pipeline(gains: dict[int, float], text: str) -> None:
    """Replicas have a speed-up of their number; streaming weights can make them slower than a pipeline."""
    rows: list[Any] = [SimpleNamespace(stages=k, speed_up=gain) for k, gain in gains.items()]
    whole = Whole(seconds=2.0, memory_bytes=1024, fits=True)
    setup: Any = SimpleNamespace(whole=whole)
    assert explore_tables.replicas(setup, rows).endswith(f"1.00 KiB, which fits{text}")


def test_targets_are_multiplied(run: Run) -> None:
    """Every bandwidth with every memory, in bits or bytes; the document holds all rows."""
    outcome = run(
        "explore",
        "costs.json",
        "-k",
        "1,2",
        "--bandwidth",
        "8Mbit/s,1GB/s",
        "--memory",
        "1MB,2MB",
        "--json",
        *QUICK,
    )
    rows = outcome.document["rows"]
    assert [
        (row["bandwidth_bytes_per_second"], row["memory_limit_bytes"], row["stages"]) for row in rows
    ] == [(bandwidth, memory, k) for bandwidth in (1e6, 1e9) for memory in (1e6, 2e6) for k in (1, 2)]


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        (
            ["--for-rate", "50"],
            "50/s: 2 stages (50 inferences/s); 1 stage cannot: some stage takes 40.0 ms at least",
        ),
        (["--for-latency", "50ms"], "50.0 ms a request: 1 stage (40.0 ms a request)"),
        (["--fit", "2.1MB"], "2.00 MiB each: 2 stages"),
    ],
)
def test_how_many_devices(goal: list[str], said: str, run: Run) -> None:
    """The answer and its proof in one line."""
    outcome = run("explore", "costs.json", "-k", "1-6", "--device", "ideal", *goal, *QUICK)
    assert outcome.code == 0
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("devices")]
    assert said in line


def test_no_number_is_enough(run: Run) -> None:
    """The table is printed, the exit code is that of an infeasible request, and the error says why."""
    outcome = run("explore", "costs.json", "--device", "ideal", "--for-rate", "101", *QUICK)
    assert outcome.code == 4
    assert "4-64" in outcome.out
    assert (
        "no number of stages can: some stage takes 10.0 ms at least; node v0 alone works 10.0 ms"
        in outcome.err
    )
    outcome = run("explore", "costs.json", "-k", "1-3", "--device", "ideal", "--for-rate", "99", *QUICK)
    assert outcome.code == 4
    assert (
        "3 stages cannot: some stage takes 20.0 ms at least; ask for less, or give more --stages"
        in outcome.err
    )
    outcome = run("explore", "costs.json", "-k", "1-3", "--for-latency", "10ms", "--device", "ideal", *QUICK)
    assert "more stages raise the rate, not this" in outcome.err


def test_files(run: Run) -> None:
    """The suffix chooses; an unknown one, or a file that exists, is refused before any work."""
    assert run("explore", "costs.json", "-k", "1-3", "-o", "x.csv", *QUICK).code == 0
    assert Path("x.csv").read_text().splitlines()[3].startswith("3,2,")
    assert run("explore", "costs.json", "-k", "1-3", "-o", "x.csv", *QUICK).code == 2
    wrong = run("explore", "costs.json", "-k", "1-3", "-o", "x.xls", *QUICK)
    assert wrong.code == 2
    assert "must be one of .csv, .json, .png, .svg, .pdf" in wrong.err
    assert wrong.out == ""


def test_options_of_models_are_refused_for_costs(run: Run) -> None:
    """Options that would change nothing do not pass in silence."""
    outcome = run("explore", "costs.json", "--dim", "batch=2")
    assert outcome.code == 2
    assert "--dim is for models: costs.json holds costs" in outcome.err
    assert run("explore", "costs.json", "--fit", "1GB", "--memory", "1GB").code == 2


def test_plan_of_several_numbers(run: Run) -> None:
    """The table of explore; what needs one number says so."""
    outcome = run("plan", "costs.json", "-k", "2-4", "--device", "ideal", *QUICK)
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()[3:5]] == ["2-3", "4"]
    assert run("plan", "costs.json", "-k", "2,4", "-o", "x.json", *QUICK).code == 0
    assert [row["stages"] for row in json.loads(Path("x.json").read_text())["rows"]] == [2, 4]
    refused = run("plan", "costs.json", "-k", "2,4", "--perturb", "0.1")
    assert refused.code == 2
    assert "one number of stages" in refused.err
    assert run("plan", "costs.json", "-k", "4-2").code == 2


def test_split_takes_the_fewest(run: Run) -> None:
    """Of several numbers the fewest that reach the goals; without a goal the error names explore."""
    onnx.save(builders.mlp(), "mlp.onnx")
    common = ["--cost-model", "analytic", "--device", "ideal", *QUICK]
    outcome = run("split", "mlp.onnx", "-k", "1-4", "--for-latency", "1s", "-o", "out", *common)
    assert outcome.code == 0
    assert "1 s a request: 1 stage" in outcome.err.replace("1.00 s", "1 s")
    assert len(json.loads(Path("out/manifest.json").read_text())["stages"]) == 1
    refused = run("split", "mlp.onnx", "-k", "1-4", *common)
    assert refused.code == 2
    assert "explore compares several" in refused.err
    none = run("split", "mlp.onnx", "-k", "1-4", "--for-rate", "1e15", "-o", "none", *common)
    assert none.code == 4
    assert not Path("none").exists()
    one = run("split", "mlp.onnx", "-k", "2", "--for-rate", "1", "-o", "two", *common)
    assert one.code == 0
    assert len(json.loads(Path("two/manifest.json").read_text())["stages"]) == 2


def test_models_are_profiled(run: Run) -> None:
    """A model in place of costs, with the options of its profile."""
    onnx.save(builders.mlp(batch="batch"), "mlp.onnx")
    outcome = run(
        "explore", "mlp.onnx", "-k", "1-2", "--dim", "batch=4", "--cost-model", "analytic", "--json", *QUICK
    )
    assert outcome.code == 0
    assert len(outcome.document["rows"]) == 2
    assert "symbolic" not in outcome.err


def test_the_questions_of_the_readme(run: Run) -> None:
    """Every question is answered by its command as it is written there."""
    builder = GraphBuilder("chain", ticks_per_second=NS)
    for i in range(16):
        builder.add_node(f"v{i}", 2_500_000)
        builder.add_net(f"t{i}", i, [i + 1] if i < 15 else [], nbytes=100_000, to_host=i == 15)
    write_graph(builder.build(), Path("costs.json"))
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    lines = [line.split("#")[0] for line in readme.splitlines() if line.startswith("    onnx-pipeline ")]
    asked = [line.split()[1:] for line in lines if {"explore", "--perturb", "--cuts"} & set(line.split())]
    assert len(asked) == 8
    assert run("plan", "costs.json", "-k", "8", "-o", "plan.json").code == 0
    for arguments in asked:
        outcome = run(*arguments)
        assert (outcome.code, outcome.err) == (0, "")
        goals = dict.fromkeys(("--for-rate", "--for-latency", "--fit"), "devices")
        said = {**goals, "--perturb": "sensitivity", "--cuts": "stage 0 -> stage 1"}
        label = next((said[word] for word in arguments if word in said), "replicas")
        assert any(line.startswith(label) for line in outcome.out.splitlines())
