"""A command that is given what another one takes names that one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnx_pipeline.errors import InputError
from onnx_pipeline.files.json import read_json
from onnx_pipeline.files.kinds import refuse_other
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.manifest import read
from onnx_pipeline.model.source import load
from onnx_pipeline.planfile import read_plan

READERS = {"model": load, "split": read, "plan": read_plan, "costs": read_graph}
ADVICE = {
    "model": "this is an ONNX model; run `profile` or `split`",
    "split": "this is the output of a split; run `show`, `verify`, `run` or `bench`",
    "plan": "this is a plan; run `show` or `verify`",
    "costs": "this holds the costs of a model; run `plan`",
    "manifest": "this is the manifest of a split; give the folder that it is in",
}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """One of each kind, with nothing in it that makes it whole."""
    found = {"model": tmp_path / "model.onnx", "split": tmp_path / "out"}
    found["model"].write_bytes(b"\xff\x08")
    found["split"].mkdir()
    for kind, indent in (("plan", 1), ("costs", None), ("manifest", 2)):
        found[kind] = (found["split"] if kind == "manifest" else tmp_path) / f"{kind}.json"
        found[kind].write_text(json.dumps({"format": f"onnx-pipeline/{kind}"}, indent=indent))
    return found


@pytest.mark.parametrize("given", ADVICE)
@pytest.mark.parametrize("wanted", READERS)
def test_what_is_of_another_kind_is_refused_with_what_takes_it(
    places: dict[str, Path], wanted: str, given: str
) -> None:
    """By every reader; what is of its own kind is another matter."""
    with pytest.raises(InputError) as caught:
        READERS[wanted](places[given])
    assert (ADVICE[given] in str(caught.value)) is (given != wanted)


def test_what_is_unknown_is_left_to_its_reader(tmp_path: Path) -> None:
    """Missing files, empty folders, foreign JSON, a missing model."""
    (tmp_path / "foreign.json").write_text('{"format": "other/plan"}')
    for name in (".", "foreign.json", "nothing.json", "nothing.onnx"):
        refuse_other(tmp_path / name, "plan")
    assert read_json(tmp_path / "foreign.json")["format"] == "other/plan"
