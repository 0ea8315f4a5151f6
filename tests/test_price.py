"""Pricing a model from its file, or one that is loaded already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models import builders
from onnx_pipeline.cli.commands import cli
from onnx_pipeline.cli.spelling import speller
from onnx_pipeline.errors import UsageError, spelled
from onnx_pipeline.model import source as models
from onnx_pipeline.parameters import ProfileParams
from onnx_pipeline.price import bind, price, price_source
from onnx_pipeline.progress import Phases

as_option = speller(cli)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of eight nodes with a symbolic batch."""
    path = tmp_path_factory.mktemp("model") / "mlp.onnx"
    onnx.save(builders.mlp(batch="batch"), path)
    return path


def test_a_loaded_model_is_priced_like_its_file(model: Path) -> None:
    """One function does both; the graph is lowered once, when asked for."""
    params = ProfileParams("analytic", dims={"batch": 4})
    phases = Phases()
    whole = price(model, params, phases=phases)
    assert list(phases) == ["load", "shapes", "profile"]
    loaded = price_source(models.load(model), params)
    assert loaded.costs.to_json() == whole.costs.to_json()
    assert whole.graph is whole.graph
    assert whole.graph.num_nodes == 8
    assert loaded.params is params


@pytest.mark.parametrize(
    ("params", "word"),
    [
        (ProfileParams("guess"), "cost model"),
        (ProfileParams(device="abacus"), "device"),
        (ProfileParams(provider="NoSuchProvider"), "provider"),
    ],
)
def test_wrong_parameters_are_found_before_the_model_is_read(params: ProfileParams, word: str) -> None:
    """The file is not even there."""
    with pytest.raises(UsageError, match=word):
        price("nowhere.onnx", params)


def test_dimensions_that_contradict_the_inputs(model: Path) -> None:
    """In the words of Python, and of the command line."""
    source = models.load(model)
    inputs = {"x": np.zeros((5, 16), np.float32)}
    assert bind(source, {"batch": 5}, inputs)[0] == {"batch": 5}
    with pytest.raises(UsageError) as raised:
        bind(source, {"batch": 4}, inputs)
    assert str(raised.value).endswith('leave out dims={"batch": 4}')
    assert raised.value.told(as_option).endswith("leave out --dim batch=4")


def test_the_note_on_open_dimensions(model: Path) -> None:
    """It names them, and how to set them."""
    said: list[Any] = []
    bind(models.load(model), None, None, lambda *told: said.append(told))
    ((phase, _, note),) = said
    assert phase == "note"
    assert note == "symbolic dimensions left at 1: batch (set them with dims=...)"
    assert spelled(note, as_option).endswith("(set them with --dim NAME=INT)")
