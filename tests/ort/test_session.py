"""The one door to onnxruntime: options arrive, failures are one line that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from models import builders
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.ort.session import (
    DATA_FOLDER_OPTION,
    SessionSettings,
    check_libraries,
    open_session,
    session_options,
)

LEVELS = onnxruntime.GraphOptimizationLevel


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model's file."""
    onnx.save(builders.mlp(2, 4), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A model ``y = x + w`` whose weight is in a file of another folder."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.bin")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    path = tmp_path / "outside.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_paths_bytes_and_messages(model: Path) -> None:
    """All give the same session; the default runs on the CPU."""
    for given in (model, str(model), model.read_bytes(), onnx.load(model)):
        session = open_session(given)
        assert session.get_providers() == ["CPUExecutionProvider"]
        assert len(session.get_outputs()) == 1


def test_settings_arrive(model: Path, tmp_path: Path) -> None:
    """Every setting is one of the session's options."""
    settings = SessionSettings(
        threads=2, optimise=False, listed=True, profile_prefix=tmp_path / "p", saved_model=tmp_path / "s.onnx"
    )
    session = open_session(model, settings)
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.graph_optimization_level == LEVELS.ORT_DISABLE_ALL
    assert options.execution_order == onnxruntime.ExecutionOrder.PRIORITY_BASED
    assert options.log_severity_level == 4
    assert Path(session.end_profiling()).name.startswith("p")
    assert (tmp_path / "s.onnx").is_file()
    plain = session_options(SessionSettings())
    assert plain.graph_optimization_level == LEVELS.ORT_ENABLE_ALL
    assert plain.execution_order == onnxruntime.ExecutionOrder.DEFAULT
    assert not plain.enable_profiling


def test_threads_stop_spinning_after_a_run() -> None:
    """Sessions that take turns would lose their cores to the threads of the one before."""
    entry = "session.force_spinning_stop"
    assert session_options(SessionSettings(threads=2)).get_session_config_entry(entry) == "1"
    with pytest.raises(RuntimeError):  # one thread has none that could
        session_options(SessionSettings(threads=1)).get_session_config_entry(entry)


def test_attributes_and_entries_come_last() -> None:
    """A name with a dot is a configuration entry; others override what the settings say."""
    given = {"intra_op_num_threads": 3, "log_severity_level": 2, "session.intra_op.allow_spinning": 0}
    options = session_options(SessionSettings(threads=2, options=given))
    assert options.intra_op_num_threads == 3
    assert options.log_severity_level == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"no_such_option": 1}, "have no 'no_such_option'"),
        ({"intra_op_num_threads": "two"}, "does not take 'two' for the option 'intra_op_num_threads'"),
    ],
)
def test_options_that_do_not_exist(given: dict[str, Any], message: str) -> None:
    """A usage error names them."""
    with pytest.raises(UsageError, match=message):
        session_options(SessionSettings(options=given))


def test_an_options_object_is_used_as_it_is(outside: Path) -> None:
    """Only the data folder is added, once; libraries belong into the object."""
    own = onnxruntime.SessionOptions()
    own.intra_op_num_threads = 3
    settings = SessionSettings(threads=1, optimise=False, data_folder=outside.parent / "weights", options=own)
    assert session_options(settings) is own
    assert own.intra_op_num_threads == 3
    assert own.graph_optimization_level == LEVELS.ORT_ENABLE_ALL
    for _ in range(2):
        open_session(outside, settings)
    assert own.get_session_config_entry(DATA_FOLDER_OPTION) == str(outside.parent / "weights")
    with pytest.raises(UsageError, match="with the SessionOptions object itself"):
        session_options(SessionSettings(custom_ops=[outside], options=own))


def test_data_folder(outside: Path) -> None:
    """Weights may be elsewhere, for a file as for bytes."""
    with pytest.raises(InputError, match=r"outside\.onnx: onnxruntime cannot load the model: .*w\.bin"):
        open_session(outside)
    for given in (outside, outside.read_bytes()):
        session = open_session(given, SessionSettings(data_folder=outside.parent / "weights"))
        assert session.run(None, {"x": np.ones(4, np.float32)})[0].tolist() == [1, 2, 3, 4]


def test_failures_are_one_line_that_names_the_file(model: Path, tmp_path: Path) -> None:
    """Broken files, missing ones, bytes that came from somewhere."""
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(model.read_bytes()[:-40])
    missing = tmp_path / "none.onnx"
    elsewhere = SessionSettings(data_folder=tmp_path)
    for given, settings, named in (
        (bad, None, bad),
        (bad.read_bytes(), None, missing),
        (missing, None, missing),
        (missing, elsewhere, missing),
    ):
        with pytest.raises(InputError) as caught:
            open_session(given, settings, file=named, what="this stage")
        line = str(caught.value)
        assert line.startswith(f"{named}: ")
        assert "\n" not in line
        assert "ONNXRuntimeError" not in line
        assert settings is not None or "onnxruntime cannot load this stage: " in line


def test_providers(model: Path) -> None:
    """An unknown one is a usage error; one that could not be started does not pass silently."""
    with pytest.raises(UsageError, match=r"unknown provider 'Warp': this onnxruntime has .*CPUExecutionP"):
        open_session(model, SessionSettings(["Warp"]))
    with pytest.raises(UsageError, match="unknown provider 'Warp'"):
        open_session(model, SessionSettings([("CPUExecutionProvider", {}), ("Warp", {})]))
    with_options = SessionSettings([("CPUExecutionProvider", {"use_arena": "0"})])
    assert open_session(model, with_options).get_providers() == ["CPUExecutionProvider"]


def test_fallback_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime goes on with the CPU where a provider cannot be started; a user would measure that."""

    class Fallen:
        """A session that runs on the CPU whatever it was asked for."""

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def get_providers(self) -> list[str]:
            """The CPU."""
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Fallen)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(InputError, match=r"m\.onnx: CUDAExecutionProvider could not be started; .* CPUEx"):
        open_session(model, SessionSettings(["CUDAExecutionProvider"]))


def test_custom_operator_libraries(model: Path, tmp_path: Path) -> None:
    """A library that is missing, or none, is named."""
    library = tmp_path / "lib.so"
    with pytest.raises(InputError, match=r"lib\.so: no such custom-operator library"):
        open_session(model, SessionSettings(custom_ops=[library]))
    library.write_bytes(b"not a library")
    with pytest.raises(InputError, match=r"lib\.so: onnxruntime cannot load custom operators") as caught:
        check_libraries([library])
    assert "\n" not in str(caught.value)
    assert check_libraries([]) == ()
