"""``--fleet``: stages on devices that differ planned, written, shown and verified; what excludes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline.cli.entry import main
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.partition.placed import FleetResult
from tests.cli.test_devices import forge
from tests.outcome import Outcome, Run

QUICK = ["--time-limit", "2", "--threads", "1"]
FLEET = """
[[device]]
name = "fast"
device = "ideal"
speed = 3
unsupported = ["v3"]
[[device]]
name = "slow"
device = "ideal"
count = 2
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in a folder with ``costs.json`` (30, 30, 10, 10 ms) and ``f.toml``."""
    builder = GraphBuilder("chain", ticks_per_second=NS)
    builder.add_net("x", HOST, [0], nbytes=1000)
    for i, work in enumerate((30, 30, 10, 10)):
        builder.add_node(f"v{i}", work * 1_000_000)
        builder.add_net(f"t{i}", i, [i + 1] if i < 3 else [], nbytes=1000, to_host=i == 3)
    write_graph(builder.build(), tmp_path / "costs.json")
    (tmp_path / "f.toml").write_text(FLEET)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


def lines_of(outcome: Outcome) -> dict[str, str]:
    """The lines below the tables by their labels."""
    lines = [line for line in outcome.out.splitlines() if line[:1].isalpha()]
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines}


def test_the_table(run: Run) -> None:
    """Device, costs and load of every stage; unused devices, why, what is proved, whose times."""
    outcome = run("plan", "costs.json", "--fleet", "f.toml", *QUICK)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == "costs.json: 2 stages on 1 fast and 2 slow"
    head = ["stage", "device", "nodes", "params", "work", "in", "out", "cost", "load"]
    assert lines[1].split() == head
    assert lines[3].split()[:6] == ["0", "fast", "0", "2", "0", "B"]
    assert lines[4].split()[:4] == ["1", "slow", "1", "2"]
    assert all(len(line) <= 80 for line in lines[:5])
    found = lines_of(outcome)
    assert found["bottleneck"].startswith("20.0 ms")
    assert found["devices"] == "2 of 3 used; nothing on slow 2 would shorten the bottleneck"
    assert found["why"] == (
        "fast takes 75.0 % of the work; fast alone cannot run the model; "
        "2 slow alone would need at least 2 times as long"
    )
    assert found["replicas"].startswith("the whole model on each of 2 devices that can run it: 25 inf")
    assert (
        found["gap"]
        == "0 %: proved optimal among all stages on these 3 devices in this order, in the given costs"
    )
    assert found["costs"] == "fast: the graph's, 3 times as fast; cannot run 1 node; slow: the graph's"


def test_a_free_order_and_shared_devices(run: Run) -> None:
    """An order that does not matter is said; devices with several stages have a table of their own."""
    Path("f.toml").write_text('order = "any"\n' + FLEET)
    outcome = run("plan", "costs.json", "--fleet", "f.toml", *QUICK)
    assert outcome.out.startswith("costs.json: 2 stages on 1 fast and 2 slow, in any order\n")
    assert "on these 3 devices in any order, in the given costs" in lines_of(outcome)["gap"]
    Path("f.toml").write_text(FLEET.replace("v3", "v1").replace("count = 2", "count = 1"))
    alone = run("plan", "costs.json", "--fleet", "f.toml", "--json", *QUICK).document
    shared = run("plan", "costs.json", "--fleet", "f.toml", "--stages-per-device", 2, *QUICK)
    assert shared.out.startswith("costs.json: 3 stages on 1 fast and 1 slow, at most 2 on a device\n")
    rows = [line.split() for line in shared.out.splitlines()]
    start = rows.index(["device", "stages", "load", "of", "slowest"])
    assert [row[:4] for row in rows[start + 2 : start + 4]] == [
        ["fast", "0", "0,", "2"],
        ["slow", "1", "1", "30.0"],
    ]
    assert alone["certificate"]["bottleneck_seconds"] == pytest.approx(0.05)
    assert alone["certificate"]["problem"]["stages_per_device"] == 1
    assert "at most 2 on each" in lines_of(shared)["gap"]
    anywhere = run("plan", "costs.json", "--fleet", "f.toml", "--stages-per-device", "any", "--json", *QUICK)
    problem = anywhere.document["certificate"]["problem"]
    assert (problem["stages_per_device"], problem["order"]) == (None, "any")


def test_a_plan_is_read_back_verified_and_shown(run: Run) -> None:
    """PLAN.json has the work of every kind, so that the graph's file need not; cuts and reports know it."""
    assert run("plan", "costs.json", "--fleet", "f.toml", "-o", "p.json", *QUICK).code == 0
    result = op.read_plan("p.json")
    assert isinstance(result, FleetResult)
    assert (result.device_of, result.status) == ((0, 1), "optimal")
    assert result.problem.order == "fixed"
    assert repr(result).startswith("<FleetResult 'chain': 2 stages on 1 fast and 2 slow, bottleneck 20.0 ms")
    verified = run("verify", "p.json", "--recheck", 5)
    assert (verified.code, verified.err) == (0, ""), verified.err
    assert run("show", "p.json").out.splitlines()[3].split()[:3] == ["0", "fast", "0"]
    assert "stage 0 -> stage 1: 1 tensor" in run("show", "p.json", "--cuts").out
    assert run("report", "p.json", "-o", "r.html").code == 0
    assert "1 fast and 2 slow" in Path("r.html").read_text()


FORGERIES: list[tuple[dict[str, Any], str]] = [
    ({"stages.0.device": 1, "stages.1.device": 2}, "bottleneck_seconds should be"),
    ({"stages.0.device": 2, "stages.1.device": 1}, "before device 2 of an earlier stage"),
    ({"stages.1.device": 0}, "device 0 has 2 stages, at most 1 may share it"),
    ({"stages.1.device": None}, "stage 1 has no device"),
    ({"stages.1.device": 7}, "on device 7, outside 0..2"),
    ({"target.fleet.devices": [1, 0, 1]}, "device 1 (fast) cannot run node 'v3'"),
    ({"target.fleet.devices": [0, 1, 5]}, "each of a kind it names"),
    ({"target.fleet.kinds.0.name": "quick"}, "do not name the same kinds of device"),
    ({"target.fleet.kinds.1.stage_overhead_seconds": 0.1}, "bottleneck_seconds should be"),
    ({"target.fleet": None}, "the document has no fleet"),
    ({"target.fleet.free": True}, "problem should be"),
    ({"target.fleet.stages_per_device": 2}, "problem should be"),
    ({"certificate.problem": None}, "does not name its problem"),
    ({"certificate.problem.order": "any"}, "problem should be"),
    ({"certificate.problem.order": "identical"}, "problem should be"),
    ({"certificate.problem.devices": 2}, "problem should be"),
    ({"certificate.loads_seconds.0": 0.01}, "loads_seconds should be"),
    ({"certificate.loads_seconds": None}, "loads_seconds should be"),
    ({"certificate.kinds.0.work_share": 0.5}, "work_share of kind 'fast' should be"),
    ({"certificate.kinds.1.alone_seconds": 1.0}, "alone_seconds of kind 'slow' should be"),
    ({"certificate.kinds.1.used": 2}, "used of kind 'slow' should be 1, not 2"),
    ({"certificate.kinds": []}, "kinds are not those of the fleet"),
    ({"certificate.bottleneck_seconds": 0.015}, "bottleneck_seconds should be"),
    ({"certificate.replicas.devices": 3}, "replicas should be"),
    ({"stages.0.cost.work_seconds": 0.001}, "the cost of stage 0 cannot be reproduced"),
]


@pytest.mark.parametrize(("changes", "said"), FORGERIES)
def test_forged_plans_are_refused(run: Run, changes: dict[str, Any], said: str) -> None:
    """Devices, kinds, the problem, loads and figures: none can be changed alone."""
    run("plan", "costs.json", "--fleet", "f.toml", "-o", "p.json", *QUICK)
    document = json.loads(Path("p.json").read_text())
    for place, value in changes.items():
        forge(document, place, value)
    Path("p.json").write_text(json.dumps(document))
    outcome = run("verify", "p.json")
    assert outcome.code in (3, 5), outcome.out
    assert said in outcome.err


def test_bounds_are_recomputed(run: Run) -> None:
    """A bound that its weights do not prove is refused, and one above the placement."""
    run("plan", "costs.json", "--fleet", "f.toml", "-o", "p.json", *QUICK)
    document = json.loads(Path("p.json").read_text())
    fluid = next(b for b in document["certificate"]["bounds"] if b["method"] == "fluid")
    for changed in ({"seconds": fluid["seconds"] * 1.5}, {"detail": {"weights": [0, 0], "memory": [0, 0]}}):
        forged = json.loads(json.dumps(document))
        for bound in forged["certificate"]["bounds"]:
            if bound["method"] == "fluid":
                bound |= changed
        Path("p.json").write_text(json.dumps(forged))
        outcome = run("verify", "p.json")
        assert outcome.code == 5
        assert "bound 'fluid' is" in outcome.err
    document["certificate"]["bounds"][0]["seconds"] = 1.0
    Path("p.json").write_text(json.dumps(document))
    assert "above the placement" in run("verify", "p.json").err


THREADS = """
[[device]]
name = "one"
threads = 1
unsupported = ["Relu"]
[[device]]
name = "two"
threads = 2
provider = "CPUExecutionProvider"
"""


def test_split_and_run_on_two_kinds(run: Run) -> None:
    """The same provider with one thread and with two: profiled each, split, verified, run; equal outputs."""
    onnx.save(builders.mlp(), "mlp.onnx")
    Path("f.toml").write_text(THREADS)
    outcome = run("split", "mlp.onnx", "--fleet", "f.toml", "--profile-runs", 3, *QUICK)
    assert outcome.code == 0, outcome.err
    assert "written to mlp-f" in outcome.out
    assert "stages on a fleet are not measured here" in outcome.err
    assert "one: profiled on CPUExecutionProvider with 1 thread; cannot run" in outcome.out
    document = json.loads(Path("mlp-f/manifest.json").read_text())
    running = {"one": (1, None), "two": (2, [{"name": "CPUExecutionProvider", "options": {}}])}
    assert len(document["stages"]) == 2
    for stage in document["stages"]:
        kind = document["target"]["fleet"]["kinds"][stage["device"]]["name"]
        assert (stage["threads"], stage.get("providers")) == running[kind]
    assert set(json.loads(Path("mlp-f/costs.json").read_text())["nodes"][0]["work_on_ns"]) == {"one", "two"}
    assert run("verify", "mlp-f", "--model", "mlp.onnx").code == 0
    with op.PipelineSession("mlp-f") as session:
        x = np.ones(session.get_inputs()[0].shape, np.float32)
        (y,) = session.run(None, {session.get_inputs()[0].name: x})
    assert np.isfinite(y).all()


def test_a_split_on_every_device(run: Run) -> None:
    """Stage files, manifest and notebook card of a split on a fleet; emit writes the same from a plan."""
    onnx.save(builders.mlp(), "mlp.onnx")
    first = '[[device]]\nname = "a"\ndevice = "ideal"\ncount = 2\n'
    Path("f.toml").write_text(first + '[[device]]\nname = "b"\ndevice = "ideal"\nspeed = 2\n')
    common = ["--fleet", "f.toml", "--cost-model", "analytic"]
    document = run("split", "mlp.onnx", *common, "-o", "out", "--annotate", "--json", *QUICK).document
    used = [stage["device"] for stage in document["stages"]]
    assert used == sorted(set(used))
    assert document["target"]["stages"] == len(used)
    assert document["certificate"]["problem"] == {
        "objective": "bottleneck",
        "devices": 3,
        "replicas": False,
        "stages_per_device": 1,
        "order": "fixed",
    }
    manifest = Manifest.from_json(json.loads(Path("out/manifest.json").read_text()))
    assert "2 a and 1 b" in manifest._repr_html_()
    assert run("verify", "out", "--model", "mlp.onnx").code == 0
    assert run("profile", "mlp.onnx", *common, "-o", "c.json").code == 0
    assert run("plan", "c.json", "--fleet", "f.toml", "-o", "p.json", *QUICK).code == 0
    assert run("emit", "mlp.onnx", "p.json", "-o", "again").code == 0
    again = json.loads(Path("again/manifest.json").read_text())
    assert again["certificate"]["loads_seconds"] == document["certificate"]["loads_seconds"]
    assert [stage["sha256"] for stage in again["stages"]] == [s["sha256"] for s in document["stages"]]
    assert "on a" in run("profile", "mlp.onnx", *common).out


def test_a_provider_that_cannot_run_a_stage_is_refused(run: Run) -> None:
    """Providers of a stage may be edited, but not to that of a kind that cannot run it."""
    onnx.save(builders.mlp(), "mlp.onnx")
    Path("f.toml").write_text(
        '[[device]]\nname = "npu"\ndevice = "ideal"\nprovider = "NpuExecutionProvider"\ncosts = "analytic"\n'
        'unsupported = ["Relu"]\n[[device]]\nname = "cpu"\ncosts = "analytic"\n'
    )
    outcome = run("split", "mlp.onnx", "--fleet", "f.toml", "--cost-model", "analytic", "-o", "out", *QUICK)
    assert outcome.code == 0, outcome.err
    path = Path("out/manifest.json")
    document = json.loads(path.read_text())
    (last,) = [stage for stage in document["stages"] if stage["device"] == 1]
    last["providers"] = [{"name": "NpuExecutionProvider"}]
    path.write_text(json.dumps(document))
    refused = run("verify", "out")
    assert refused.code == 5
    assert f"stage {last['index']} is on NpuExecutionProvider, which cannot run it" in refused.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-k", 2], "--stages and --fleet exclude each other"),
        (["--devices", 2], "--devices and --fleet exclude each other"),
        (["--bandwidth", "1GB/s"], "bandwidth and fleet exclude each other; give bandwidth of each device"),
        (["--memory-mode", "hard"], "memory_mode and fleet exclude each other"),
        (["--device", "gpu"], "device and fleet exclude each other"),
        (["--exactly"], "fleet and exactly exclude each other"),
        (["--log", "l.csv"], "fleet and log exclude each other"),
        (["--perturb", 0.1], "--perturb is for a number of stages"),
        (["--stages-per-device", 0], 'must be a whole number from 1 or "any"'),
        (["--pin", "v0=5"], "pinned to device 5"),
    ],
)
def test_what_excludes_a_fleet(run: Run, options: list[object], said: str) -> None:
    """One line, before any work."""
    outcome = run("plan", "costs.json", "--fleet", "f.toml", *options)
    assert outcome.code in (2, 3), outcome.out
    assert said in outcome.err
    assert outcome.out == ""


def test_a_number_of_stages_has_no_shared_devices(run: Run) -> None:
    """``--stages-per-device`` needs a fleet; a broken file is told with its name."""
    outcome = run("plan", "costs.json", "-k", 2, "--stages-per-device", 2)
    assert (outcome.code, "give --fleet FILE.toml" in outcome.err) == (2, True)
    Path("f.toml").write_text("[[device]]\nspeed = 0\n")
    broken = run("plan", "costs.json", "--fleet", "f.toml")
    assert (broken.code, broken.err.startswith("onnx-pipeline: error: f.toml: device 1: speed")) == (3, True)


def test_a_fleet_in_a_configuration_file(run: Run) -> None:
    """Options of fleets are keys, too."""
    Path("c.toml").write_text('fleet = "f.toml"\nstages-per-device = "any"\n')
    document = run("plan", "costs.json", "--config", "c.toml", "--json", *QUICK).document
    assert document["target"]["fleet"]["stages_per_device"] is None


def test_fleets_in_python(run: Run) -> None:
    """A table does as well as a file; place and plan agree."""
    graph = op.read_graph("costs.json")
    table = {"device": [{"name": "a", "device": "ideal", "speed": 2}, {"name": "b", "device": "ideal"}]}
    result = op.plan(graph, fleet=table, time_limit=2)
    assert isinstance(result, FleetResult)
    assert [kind.name for kind in result.fleet.kinds] == ["a", "b"]
    placement = op.place(graph, op.Fleet.from_table(table), time_limit=2)
    assert placement.bottleneck == result.bottleneck
    assert result.to_json()["target"]["fleet"]["devices"] == [0, 1]
