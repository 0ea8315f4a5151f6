"""The commands end to end: options, results on stdout, diagnostics on stderr, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import numpy as np
import onnx
import pytest

from models import builders
from onnx_pipeline.cli.commands import cli
from onnx_pipeline.cli.entry import main
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.settings import BOUNDS
from tests.outcome import Outcome, Run

#: Enough for a tiny model, and nothing that depends on how fast this machine is.
QUICK = ["--profile-runs", "2", "--time-limit", "2", "--threads", "1"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of eight nodes with a symbolic batch."""
    path = tmp_path_factory.mktemp("model") / "mlp.onnx"
    onnx.save(builders.mlp(batch="batch"), path)
    return path


@pytest.fixture(scope="module")
def out(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model split in two; tests only read it."""
    directory = tmp_path_factory.mktemp("split") / "out"
    command = ["split", str(model), "-k", "2", "-o", str(directory), "--bandwidth", "inf", "--json", *QUICK]
    assert main(command) == 0
    return directory


def test_option_names_are_the_contract() -> None:
    """Scripts outside the repository call these: renaming or removing one breaks them."""
    shared = {"--json", "--quiet", "-q", "--verbose", "-v", "--help"}
    costs = {"--cost-model", "--dim", "--inputs", "--profile-runs", "--provider", "--device", "--seed"}
    costs |= {"--profile-seconds", "--cache", "--custom-ops", "--intra-op-threads"}
    output = {"--output", "-o", "--force"}
    search = {"--stages", "-k", "--devices", "--time-limit", "--gap", "--seed", "--threads"}
    search |= {"--pin", "--together", "--no-cut", "--exactly", "--bounds", "--log", "--partition"}
    target = {"--device", "--bandwidth", "--memory", "--memory-mode", "--activations"}
    goals = {"--for-rate", "--for-latency", "--fit"}
    streaming = {
        "--allow-reference",
        "--provider",
        "--backend",
        "--queue-depth",
        "--max-in-flight",
        "--trace",
        "--plot",
    }
    streaming |= {"--custom-ops"}
    fleets = {"--fleet", "--stages-per-device"}
    expected = {
        "explore": {"MODEL|COSTS", "--front", "--ignore-colocation", "--config"}
        | costs
        | output
        | (search - {"--log", "--partition"})
        | target
        | goals,
        "split": {"MODEL", "--annotate", "--measure", "--measure-seconds", "--weights", "--config"}
        | goals
        | costs
        | output
        | search
        | target
        | fleets,
        "profile": {"MODEL", "--config", "--fleet"} | costs | output,
        "plan": {"GRAPH", "--front", "--ignore-colocation", "--perturb", "--samples", "--config"}
        | output
        | search
        | target
        | fleets,
        "emit": {"MODEL", "PLAN.json", "--annotate", "--weights", "--config"}
        | {"--dim", "--inputs", "--custom-ops"}
        | output,
        "verify": {"DIR|PLAN.json", "--model", "--inputs", "--dim", "--seed", "--recheck", "--custom-ops"},
        "run": {"DIR", "--inputs", "--batched"} | output | streaming,
        "bench": {"DIR", "--requests", "--rounds", "--model", "--no-baselines", "--inputs", "--dim"}
        | streaming,
        "show": {"DIR|PLAN.json", "--cuts", "--format", "--node-data", "-o", "--output", "--force"},
        "calibrate": {"--transport"} | output,
        "report": {"DIR|PLAN.json", "--trace", "--bench"} | output,
    }
    assert set(cli.commands) == {*expected, "cache"}
    assert set(cli.commands["cache"].commands) == {"clear", "info"}  # type: ignore[attr-defined]
    for name in expected:
        command = cli.commands[name]
        context = click.Context(command)
        found: set[str] = set()
        for parameter in command.get_params(context):
            named = isinstance(parameter, click.Option)
            found |= set(parameter.opts) if named else {parameter.make_metavar(context)}
        found.add("--help")
        own = {"--help"} if isinstance(command, click.Group) else expected[name] | shared
        assert found - {"-h"} == own, name


@pytest.mark.parametrize("command", [[], *([name] for name in sorted(cli.commands))])
def test_help_works_everywhere(run: Run, command: list[str]) -> None:
    """--help of every command goes to stdout with exit code 0."""
    outcome = run(*command, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith("Usage: onnx-pipeline")
    assert outcome.err == ""


@pytest.mark.parametrize("command", ["split", "plan"])
def test_help_names_every_bound(run: Run, command: str) -> None:
    """What ``--bounds`` takes is what its help lists."""
    words = run(command, "--help").out.replace(",", " ").replace(".", " ").split()
    assert set(BOUNDS) <= set(words)


def test_version(run: Run) -> None:
    """--version names the program and a version."""
    assert run("--version").out.split()[0] == "onnx-pipeline"


def test_help_loads_only_click() -> None:
    """The start-up time of the program is the start-up time of click."""
    code = (
        "import sys; from onnx_pipeline.cli.entry import main; main(['split', '--help']);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "click" in loaded
    assert not loaded & {"numpy", "onnx", "onnx_ir", "onnxruntime", "ortools", "numba", "networkx", "rich"}


def test_no_command_is_a_usage_error(run: Run) -> None:
    """The bare program shows its help on stderr and fails."""
    outcome = run()
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Commands:" in outcome.err


def test_split_prints_the_closing_table(run: Run, model: Path) -> None:
    """Default output directory, table on stdout, what was assumed on stderr."""
    outcome = run("split", model, "-k", 2, "--bandwidth", "inf", *QUICK)
    assert outcome.code == 0
    assert Path("mlp-k2", "manifest.json").is_file()
    for word in (
        "stage",
        "work",
        "in",
        "out",
        "params",
        "total",
        "bottleneck",
        "speed-up",
        "lower bound",
        "gap",
    ):
        assert word in outcome.out
    for phase in ("load", "infer shapes", "profile", "build graph", "partition", "write stages"):
        assert f"{phase} " in outcome.out.splitlines()[-2]
    assert "note: costs are for batch=1; give real sizes with --dim NAME=INT\n" in outcome.err
    assert "give real sizes" not in outcome.out
    assert ", for batch=1\n" in outcome.out


def test_given_dimensions_are_not_remarked_upon(run: Run, model: Path) -> None:
    """--dim silences the note and reaches the manifest."""
    outcome = run("split", model, "-k", 2, "--dim", "batch=3", "--json", "--bandwidth", "inf", *QUICK)
    assert outcome.code == 0
    assert "give real sizes" not in outcome.err
    assert outcome.document["cost_model"]["dims"] == {"batch": 3}


def test_inputs_bind_the_dimensions(run: Run, model: Path) -> None:
    """Representative inputs say how large the batch is; contradicting them is an error."""
    np.savez("x.npz", x=np.zeros((5, 16), np.float32))
    common = ["split", model, "-k", 2, "--inputs", "x.npz", "--json", *QUICK]
    assert run(*common).document["cost_model"]["dims"] == {"batch": 5}
    outcome = run(*common, "--dim", "batch=4", "-o", "other")
    assert outcome.code == 2
    assert "'batch' is set to 4 and is 5 in the inputs; leave out --dim batch=4" in outcome.err


def test_split_json_is_the_manifest(run: Run, model: Path) -> None:
    """--json puts exactly one document on stdout: the manifest and where it lies."""
    outcome = run("split", model, "-k", 2, "-o", "deep/er/out", "--json", "-q", "--bandwidth", "inf", *QUICK)
    assert outcome.code == 0
    assert outcome.err == ""
    document = outcome.document
    assert document.pop("output") == "deep/er/out"
    assert document == json.loads(Path("deep/er/out/manifest.json").read_text())
    phases = {"load", "shapes", "profile", "lower", "partition", "measure", "emit"}
    assert set(document["phases"]) == phases


def test_more_stages_than_nodes(run: Run, model: Path) -> None:
    """Allowed: empty stages are not emitted, and it is said."""
    outcome = run("split", model, "-k", 50, "--json", *QUICK)
    assert outcome.code == 0
    assert "50 stages for 8 nodes: empty stages are not written" in outcome.err
    assert 1 <= len(outcome.document["stages"]) <= 8
    assert outcome.document["target"]["stages"] == 50


def test_force_replaces_and_only_what_this_program_wrote(run: Run, model: Path) -> None:
    """An existing output is kept without --force; a foreign directory is kept in any case."""
    command = ["split", model, "-k", 2, "-o", "out", *QUICK]
    assert run(*command).code == 0
    before = Path("out/manifest.json").stat().st_mtime_ns
    assert run(*command).code == 2
    assert Path("out/manifest.json").stat().st_mtime_ns == before
    assert run(*command, "--force").code == 0
    assert Path("out/manifest.json").stat().st_mtime_ns > before
    Path("home").mkdir()
    Path("home/thesis.tex").touch()
    outcome = run("split", model, "-k", 2, "-o", "home", "--force", *QUICK)
    assert outcome.code == 2
    assert Path("home/thesis.tex").exists()


def test_profile_writes_costs_that_plan_and_split_read(run: Run, model: Path) -> None:
    """COSTS.json goes round: profile -> plan, and profile -> split without measuring again."""
    outcome = run("profile", model, "-o", "costs.json", "--profile-runs", 2)
    assert outcome.code == 0
    assert "8 nodes" in outcome.out
    costs = json.loads(Path("costs.json").read_text())
    assert run("profile", model, "-o", "costs.json", "--profile-runs", 2).code == 2
    planned = run("plan", "costs.json", "-k", 2, "--json", "--time-limit", 2)
    assert planned.code == 0
    assert planned.document["graph"]["nodes"] == len(costs["nodes"]) == 8
    reused = run("split", model, "-k", 2, "--cost-model", "costs.json", "--json", *QUICK)
    assert reused.code == 0
    total = sum(stage["cost"]["work_seconds"] for stage in reused.document["stages"])
    assert total * 1e9 == pytest.approx(sum(node["work_ns"] for node in costs["nodes"]))


def test_profile_json_is_the_cost_document(run: Run, model: Path) -> None:
    """Without -o nothing is written, and stdout can be read as COSTS.json."""
    outcome = run("profile", model, "--json", "--profile-runs", 2)
    assert outcome.code == 0
    assert outcome.document["format"] == "onnx-pipeline/costs"
    assert list(Path().iterdir()) == []


def test_plan_writes_what_show_reads(run: Run, msr_dir: Path) -> None:
    """PLAN.json holds assignment and certificate; show prints the same table, --json the same document."""
    graph = msr_dir / "resnet50_layer.json"
    outcome = run("plan", graph, "-k", 4, "-o", "plan.json", "--time-limit", 2)
    assert outcome.code == 0
    document = json.loads(Path("plan.json").read_text())
    named = [name for stage in document["stages"] for name in stage["node_names"]]
    assert len(named) == len(set(named)) == document["graph"]["nodes"]
    certificate = document["certificate"]
    assert certificate["lower_bound_seconds"] <= certificate["bottleneck_seconds"]
    shown = run("show", "plan.json")
    assert shown.out.strip() == outcome.out.replace("written to plan.json", "").strip()
    assert run("show", "plan.json", "--json").document == document


def test_plan_of_a_published_workload_is_free_of_device_overheads(run: Run, msr_dir: Path) -> None:
    """Graphs with transfer times of their own are priced by the paper's objective, nothing added."""
    document = run("plan", msr_dir / "resnet50_layer.json", "-k", 2, "--json", "--time-limit", 2).document
    assert document["target"]["device"] == "ideal"
    assert document["target"]["host_io"] is False
    assert all(stage["cost"]["overhead_seconds"] == 0 for stage in document["stages"])
    work = sum(stage["cost"]["work_seconds"] for stage in document["stages"])
    assert document["certificate"]["one_device_seconds"] == pytest.approx(work)


def test_plan_takes_the_memory_limit_of_the_file(run: Run, msr_dir: Path) -> None:
    """--memory file reads the workload's own limit; without a bandwidth that cannot cost anything."""
    command = ["plan", msr_dir / "bert_l-3_operator.json", "-k", 2, "--memory", "file", "--time-limit", 1]
    outcome = run(*command, "--json", "--bandwidth", "16GB/s")
    assert outcome.document["target"]["memory_bytes"] == 17185374208
    assert "unlimited link" not in outcome.err
    assert "unlimited link" in run(*command, "--json").err


def test_verify_and_show(run: Run, out: Path, model: Path) -> None:
    """A fresh split verifies, by itself and against the model, and shows its table again."""
    assert run("verify", out).code == 0
    outcome = run("verify", out, "--model", model, "--dim", "batch=2", "--json")
    assert outcome.code == 0
    assert isinstance(outcome.document, dict)
    assert "bottleneck" in run("show", out).out
    assert run("show", out, "--json").document == json.loads((out / "manifest.json").read_text())


def test_verify_fails_on_a_changed_file(run: Run, out: Path, tmp_path: Path) -> None:
    """Exit code 5 and the file's name."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    with (copy / "stage_1.onnx").open("ab") as file:
        file.write(b"\0")
    outcome = run("verify", copy)
    assert outcome.code == 5
    assert "stage_1.onnx" in outcome.err


def test_run_equals_the_model(run: Run, out: Path, model: Path) -> None:
    """Outputs of the chained stages, one request and batched, equal onnxruntime on the whole model."""
    import onnxruntime

    x = np.random.default_rng(0).standard_normal((3, 2, 16), dtype=np.float32)
    whole = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    np.savez("x.npz", x=x[0])
    assert run("run", out, "--inputs", "x.npz", "-o", "y.npz").code == 0
    np.testing.assert_allclose(np.load("y.npz")["y"], whole.run(None, {"x": x[0]})[0], rtol=1e-5)
    np.savez("batch.npz", x=x)
    outcome = run("run", out, "--inputs", "batch.npz", "-o", "z.npz", "--batched", "--json")
    assert outcome.document["outputs"][0]["shape"] == [3, 2, 16]
    expected = np.stack([whole.run(None, {"x": each})[0] for each in x])
    np.testing.assert_allclose(np.load("z.npz")["y"], expected, rtol=1e-5)
    assert not [name for name in zipfile.ZipFile("z.npz").namelist() if not name.endswith(".npy")]


def test_run_without_output_prints_a_summary(run: Run, out: Path) -> None:
    """Name, type, shape and range on stdout."""
    np.savez("x.npz", x=np.zeros((1, 16), np.float32))
    outcome = run("run", out, "--inputs", "x.npz")
    assert outcome.code == 0
    assert "float32" in outcome.out
    assert "1x16" in outcome.out


def test_verbose_and_quiet(run: Run, model: Path) -> None:
    """-v logs phases on stderr, -q says nothing there; stdout is the same kind of result."""
    outcome = run("split", model, "-k", 2, "-o", "a", "-v", *QUICK)
    assert "onnx-pipeline: profile:" in outcome.err
    assert "bottleneck" in outcome.out
    outcome = run("split", model, "-k", 2, "-o", "b", "-q", *QUICK)
    assert outcome.err == ""
    assert "bottleneck" in outcome.out


def test_plan_takes_demands(tmp_path: Path, run: Run) -> None:
    """Pins, groups, a hard limit, chosen bounds and the log reach the partitioner; nonsense is refused."""
    builder = GraphBuilder("chain", ticks_per_second=NS)
    nodes = [builder.add_node(f"n{i}", 1000) for i in range(6)]
    for i in range(5):
        builder.add_net(f"t{i}", nodes[i], [nodes[i + 1]], nbytes=1)
    for i in range(6):
        builder.add_group(f"w{i}", 100, [nodes[i]])
    costs = tmp_path / "costs.json"
    write_graph(builder.build(), costs)

    def plan(*arguments: str) -> Outcome:
        fixed = ["-k", 3, "--time-limit", 2, "--bandwidth", "1GB/s", "--json"]
        return run("plan", costs, *fixed, *arguments)

    log = tmp_path / "log.csv"
    done = plan("--pin", "n0=1", "--together", "n1,n2", "--no-cut", "t3", "--log", str(log))
    assert done.code == 0, done.err
    stage = {name: s["index"] for s in json.loads(done.out)["stages"] for name in s["node_names"]}
    assert stage["n0"] == 1
    assert stage["n1"] == stage["n2"]
    assert stage["n3"] == stage["n4"]
    assert log.read_text().startswith("seconds,method,bottleneck_seconds,lower_bound_seconds\n")
    names = [b["method"] for b in json.loads(plan("--bounds", "guess").out)["certificate"]["bounds"]]
    assert set(names) <= {"simple", "guess"}
    used = [s for s in json.loads(plan("--exactly").out)["stages"] if s["nodes"]]
    assert len(used) == 3
    assert plan("--memory", "150B", "--memory-mode", "hard").code == 4
    for wrong in (["--pin", "n0"], ["--pin", "zz=1"], ["--no-cut", "zz"], ["--bounds", "zz"]):
        assert plan(*wrong).code == 2, wrong


@pytest.mark.parametrize(
    "command", [[name] for name in cli.commands if name != "cache"] + [["cache", "info"]]
)
def test_help_is_readable_at_80_columns(
    run: Run, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is longer, every option has a text and a metavar that says something, defaults are plain."""
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run(*command, "--help")
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 80
    for clumsy in ("x>=", "INTEGER", "FLOAT", "TEXT", "PATH", "RANGE", ".0]", "(10)"):
        assert clumsy not in outcome.out


def test_every_command_is_described_in_whole_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns none of the short texts ends in dots, however long it is."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(cli.commands["plan"], "help", "Plan " + "and plan again " * 8 + "to the end.")
    out = run("--help").out
    assert max(map(len, out.splitlines())) <= 80
    assert "..." not in out.partition("Commands:")[2]
    assert "to the end." in " ".join(out.split())


def test_counts_are_refused_in_the_words_of_the_other_numbers(run: Run) -> None:
    """As those that are settings are."""
    for given in ("0", "-1", "two", "1.5"):
        outcome = run("bench", "out", "--rounds", given)
        assert outcome.code == 2
        assert f"'--rounds': must be a whole number from 1 to 2147483647, got {given};" in outcome.err
