"""Profiles of other tools: formats, fused layers, what does not match."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from onnx import parser

from models import builders
from onnx_pipeline.costmodel import cost_model, load_device
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts
from onnx_pipeline.errors import InputError
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import load


class Asked:
    """Requests for one model, with what was said meanwhile."""

    def __init__(self, path: Path) -> None:
        source = load(path)
        self.notes: list[str] = []
        self.folder = path.parent
        self.request = CostRequest(
            source,
            value_infos(source, {}),
            executable_nodes(source),
            {},
            None,
            load_device("cpu"),
            progress=lambda phase, _, text: self.notes.append(text) if phase == "note" else None,
        )

    def costs(self, name: str, content: Any) -> NodeCosts:
        """Write a profile and price the model by it."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return cost_model(str(path))(self.request)


@pytest.fixture
def chain(tmp_path: Path) -> Asked:
    """Four nodes a, b, c, d in a row; tensors p, q, r, z."""
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[64] x) => (float[64] z) { [a] p = Relu(x)
            [b] q = Neg(p)
            [c] r = Exp(q)
            [d] z = Abs(r) }"""
    )
    onnx.save(model, tmp_path / "model.onnx")
    return Asked(tmp_path / "model.onnx")


TRT = [
    {"count": 10},
    {"name": "Reformatting CopyNode for Input Tensor 0 to a", "averageMs": 0.1, "timeMs": 1.0},
    {"name": "a + b", "averageMs": 0.4, "medianMs": 0.3, "timeMs": 4.0, "percentage": 50.0},
    {"name": "PWN(c)", "timeMs": 2.0},
    {"name": "{ForeignNode[c...d]}", "averageMs": 0.4, "timeMs": 4.0},
    {"name": "gadget", "averageMs": 0.1, "timeMs": 1.0},
]


def test_tensorrt(chain: Asked) -> None:
    """Fused layers are divided, copies belong to their node, ranges cover what lies between."""
    costs = chain.costs("profile.json", TRT)
    work = costs.work_ns
    assert sum(work.values()) == 1_100_000
    # The unmatched tenth of a millisecond is spread over all of them in proportion.
    assert work["a"] + work["b"] == pytest.approx(400_000 * 1.1, abs=2)
    assert work["c"] + work["d"] == pytest.approx(600_000 * 1.1, abs=2)
    assert min(work.values()) > 0
    assert costs.meta["source"] == "TensorRT trtexec"
    assert costs.meta["unmatched_layers"] == {"gadget": pytest.approx(1e-4)}
    assert costs.meta["mapped_share"] == pytest.approx(10 / 11)
    assert chain.notes == ["1 layer of profile.json matches no node of the model: gadget (100 us)"]


OPENVINO = """layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)
a;Status.EXECUTED;ReLU;jit;0.200;0.200
q;Status.EXECUTED;Negative;jit;0.100;0.100
c;Status.NOT_RUN;Exp;undef;0.000;0.000
d;Status.EXECUTED;Abs;jit;0.300;0.300
z/sink;Status.EXECUTED;Result;unknown;0.000;0.000
Total;;;;0.600;0.600

"""


def test_openvino_csv(chain: Asked) -> None:
    """Layers are found by node and by tensor name; the total is no layer; requests are averaged."""
    later = OPENVINO.replace("0.300", "0.500").replace("0.600", "0.800")
    costs = chain.costs("report.csv", OPENVINO + later)
    assert costs.work_ns == {"a": 200_000, "b": 100_000, "c": 0, "d": 400_000}
    assert costs.meta["source"] == "OpenVINO benchmark_app"


def test_openvino_json_and_microseconds(chain: Asked) -> None:
    """The JSON report holds the same, older CSV reports count microseconds."""
    nodes = [{"name": n, "node_type": "X", "real_time": "0.100", "status": "EXECUTED"} for n in "abcd"]
    costs = chain.costs("r.json", {"report_type": "average", "avg_performance": {"nodes": nodes}})
    assert costs.work_ns == dict.fromkeys("abcd", 100_000)
    old = "layerName;execStatus;layerType;execType;realTime (us);cpuTime (us)\n"
    costs = chain.costs("r.csv", old + "".join(f"{n};EXECUTED;X;jit;{i};{i}\n" for i, n in enumerate("abcd")))
    assert costs.work_ns == {"a": 0, "b": 1000, "c": 2000, "d": 3000}


@pytest.mark.parametrize("optimise", [False, True])
def test_onnxruntime_profile(tmp_path: Path, optimise: bool) -> None:
    """A real profiling file of this model, fused or not: every node has a cost and no time is lost."""
    path = tmp_path / "cnn.onnx"
    onnx.save(builders.cnn(batch=1), path)
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "trace")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    asked = Asked(path)
    from onnx_pipeline.model.inputs import make_feeds

    for _ in range(4):
        session.run(None, make_feeds(asked.request.source, {}))
    file = Path(session.end_profiling())
    costs = cost_model(str(file))(asked.request)
    assert costs.meta["source"] == "onnxruntime profile"
    assert list(costs.work_ns) == [node.name for node in asked.request.nodes]
    assert sum(costs.work_ns.values()) == pytest.approx(costs.meta["seconds_per_inference"] * 1e9, abs=1)
    if not optimise:
        assert costs.meta["mapped_share"] == 1.0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", [{"name": "alien", "averageMs": 1.0}], "0 % of its time.*alien"),
        ("p.json", [{"name": "a", "averageMs": 0.0}], "in which no layer took time"),
        ("p.json", [{"name": "a", "averageMs": -1.0}], "layer 'a'.*-1.0"),
        ("p.json", [{"name": "a", "averageMs": "x"}], "layer 'a'.*'x'"),
        ("p.json", [{"cat": "Node", "name": "a_kernel_time", "ts": 1, "dur": 2, "args": {}}], "complete run"),
        ("p.json", [{"cat": "Node", "name": "a_kernel_time"}, {"name": "model_run"}], "malformed"),
        ("p.json", {"avg_performance": {"total": 1}}, 'without the list "nodes"'),
    ],
)
def test_errors(chain: Asked, name: str, content: Any, message: str) -> None:
    """Each error names the file and what is wrong in it."""
    with pytest.raises(InputError, match=message) as caught:
        chain.costs(name, content)
    assert name in str(caught.value)


def test_a_small_part_of_a_model_is_refused(tmp_path: Path) -> None:
    """Two layers of a model of many nodes tell nothing about it, wherever they are."""
    onnx.save(builders.mlp(60), tmp_path / "mlp.onnx")
    asked = Asked(tmp_path / "mlp.onnx")
    names = [str(node.name) for node in asked.request.nodes]
    for pair in (names[:2], names[-2:], (names[0], names[-1])):
        layers = [{"name": name, "averageMs": 0.05} for name in pair]
        with pytest.raises(InputError, match=f"times for only 2 of the model's {len(names)} nodes"):
            asked.costs("part.json", layers)


def test_nodes_without_a_time_are_computed(tmp_path: Path) -> None:
    """Where most of a model is in the file, nodes that no layer needs cost in proportion; it is said."""
    onnx.save(builders.mlp(8), tmp_path / "mlp.onnx")
    asked = Asked(tmp_path / "mlp.onnx")
    names = [str(node.name) for node in asked.request.nodes]
    layers = [{"name": name, "averageMs": 0.05} for name in names[:-3]]
    costs = asked.costs("part.json", layers)
    assert min(costs.work_ns.values()) > 0
    assert sum(costs.work_ns.values()) > 50_000 * len(layers)
    assert sum(costs.work_ns[name] for name in names[:-3]) == pytest.approx(50_000 * len(layers), abs=9)
    assert costs.meta["nodes_without_time"] == 3
    assert any(f"no time for 3 of the model's {len(names)} nodes" in note for note in asked.notes)


@pytest.mark.parametrize(
    "content",
    [
        [{"cat": "Node", "name": "a_kernel_time", "ts": 0, "dur": 1e999, "args": {}}, {"name": "model_run"}],
        [{"cat": "Node", "name": "a_kernel_time", "ts": 0, "dur": -5, "args": {}}, {"name": "model_run"}],
        [{"count": "many"}, {"name": "a", "timeMs": 3}],
        [{"name": "a", "averageMs": 10**400}],
    ],
)
def test_impossible_numbers(chain: Asked, content: Any) -> None:
    """One line."""
    with pytest.raises(InputError):
        chain.costs("p.json", content)
