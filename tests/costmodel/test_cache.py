"""Kept profiles: found under exactly the same conditions, never trusted blindly."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models import builders
from onnx_pipeline.cli.entry import main
from onnx_pipeline.costmodel import Device, load_device
from onnx_pipeline.costmodel.cache import cached, clear, usage
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.source import load


class Counted:
    """A cost model that counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, request: CostRequest) -> NodeCosts:
        """Price every node with the number of the call."""
        self.calls += 1
        names = [str(node.name) for node in request.nodes]
        work = dict.fromkeys(names, self.calls)
        return NodeCosts("profile", work, {"runs": 3}, (), {names[0]: 0.25}, {"t": 7})


@pytest.fixture
def request_(tmp_path: Path) -> CostRequest:
    """A request for a small chain, with a cache of its own."""
    path = tmp_path / "mlp.onnx"
    onnx.save(builders.mlp(2), path)
    source = load(path)
    nodes = executable_nodes(source)
    return CostRequest(source, {}, nodes, {}, None, load_device("cpu"), cache=tmp_path / "cache")


def test_second_request_is_read(request_: CostRequest) -> None:
    """The kept costs are the measured ones, in every field, and say where they come from."""
    measure = Counted()
    first, second = cached(measure)(request_), cached(measure)(request_)
    assert measure.calls == 1
    assert second.meta == {**first.meta, "cached": True}
    for name in ("kind", "work_ns", "estimated", "spread", "border_ns"):
        assert getattr(second, name) == getattr(first, name)


@pytest.mark.parametrize(
    "change",
    [{"dims": {"n": 2}}, {"provider": "Other"}, {"threads": 2}, {"seed": 1}, {"runs": 5}, {"seconds": 1.0}],
)
def test_other_conditions_are_measured(request_: CostRequest, change: dict[str, object]) -> None:
    """Whatever a time depends on is part of the key."""
    measure = Counted()
    cached(measure)(request_)
    cached(measure)(dataclasses.replace(request_, **change))
    assert measure.calls == 2


def test_other_model_is_measured(request_: CostRequest, tmp_path: Path) -> None:
    """A model with other bytes is another model."""
    measure = Counted()
    cached(measure)(request_)
    path = tmp_path / "other.onnx"
    onnx.save(builders.mlp(2, seed=1), path)
    source = load(path)
    other = dataclasses.replace(request_, source=source, nodes=executable_nodes(source))
    cached(measure)(other)
    assert measure.calls == 2


def test_no_cache(request_: CostRequest) -> None:
    """Without a folder nothing is kept."""
    measure = Counted()
    bare = dataclasses.replace(request_, cache=None)
    cached(measure)(bare)
    cached(measure)(bare)
    assert measure.calls == 2


def other_rates(name: str) -> Device:
    """Return the built-in device with another rate."""
    return dataclasses.replace(load_device(name), memory_bandwidth=1e9)


@pytest.mark.parametrize("common", [{"provider": "Compiling"}, {"seconds": 1.0}])
def test_rates_count_where_they_divide(request_: CostRequest, common: dict[str, Any]) -> None:
    """A compiled subgraph, or a fused kernel under a budget, is divided by rates; else they do not count."""
    measure = Counted()
    for device in (load_device("cpu"), other_rates("cpu")):
        cached(measure)(dataclasses.replace(request_, device=device))
    assert measure.calls == 1
    for device in (load_device("cpu"), other_rates("cpu"), load_device("cpu")):
        cached(measure)(dataclasses.replace(request_, device=device, **common))
    assert measure.calls == 3


def test_noise_is_not_kept(request_: CostRequest) -> None:
    """What a busy machine has measured serves this run only, and a note says so; without a cache, too."""
    calls = 0
    notes: list[str] = []
    request_ = dataclasses.replace(
        request_, progress=lambda phase, _, text: notes.append(text) if phase == "note" else None
    )

    def noisy(request: CostRequest) -> NodeCosts:
        nonlocal calls
        calls += 1
        return NodeCosts("profile", {str(node.name): 1 for node in request.nodes}, {"noise": 0.5})

    for _ in range(2):
        assert "cached" not in cached(noisy)(request_).meta
    assert calls == 2
    cached(noisy)(dataclasses.replace(request_, cache=None))
    said = "a busy machine: other work slowed the runs down by 50 %"
    assert notes == [*[f"{said}; this profile is not kept"] * 2, f"{said}; the costs may be off"]


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "1e30", "-5", "1" + 400 * "0", 9999 * "[" + 9999 * "]"]
)
@pytest.mark.parametrize("place", ['"work_ns": {"%s": ', '"border_ns": {"t": ', '"meta": {"runs": '])
def test_damaged_numbers_are_measured_again(request_: CostRequest, place: str, number: str) -> None:
    """Whatever a file says after damage, it is not believed."""
    measure = Counted()
    cached(measure)(request_)
    assert request_.cache is not None
    (path,) = (request_.cache / "profiles").iterdir()
    start = place % request_.nodes[0].name if "%" in place else place
    text = path.read_text()
    before, found, after = text.partition(start)
    assert found
    path.write_text(before + found + number + after[1:])
    cached(measure)(request_)
    assert measure.calls == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_replaced(request_: CostRequest) -> None:
    """Nobody waits for what will never come, neither to read nor to write."""
    measure = Counted()
    cached(measure)(request_)
    assert request_.cache is not None
    (path,) = (request_.cache / "profiles").iterdir()
    path.unlink()
    os.mkfifo(path)
    assert usage(request_.cache)[0] == 1
    cached(measure)(request_)
    cached(measure)(request_)
    assert measure.calls == 2
    assert path.is_file()


def test_strange_entries_are_counted_and_cleared(request_: CostRequest) -> None:
    """Folders and links to nothing disturb neither command."""
    assert request_.cache is not None
    (request_.cache / "profiles" / "folder.json").mkdir(parents=True)
    (request_.cache / "profiles" / "link.json").symlink_to("nothing")
    assert usage(request_.cache)[0] == 2
    assert clear(request_.cache)[0] == 1


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"work_ns": {}}', '{"work_ns": 3}', "\x00"])
def test_broken_file_is_measured_again(request_: CostRequest, content: str) -> None:
    """A damaged file is replaced, without an error."""
    measure = Counted()
    cached(measure)(request_)
    assert request_.cache is not None
    (path,) = (request_.cache / "profiles").iterdir()
    path.write_text(content)
    cached(measure)(request_)
    assert measure.calls == 2
    cached(measure)(request_)
    assert measure.calls == 2


def test_unwritable_cache_costs_nothing(request_: CostRequest, tmp_path: Path) -> None:
    """Where the cache's folder cannot be made, measuring goes on."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    costs = cached(Counted())(dataclasses.replace(request_, cache=blocker))
    assert set(costs.work_ns.values()) == {1}


def test_clear_and_usage(request_: CostRequest) -> None:
    """Only the profiles go, and their number is told."""
    cached(Counted())(request_)
    assert request_.cache is not None
    stranger = request_.cache / "note.txt"
    stranger.write_text("mine")
    count, size = usage(request_.cache)
    assert (count, clear(request_.cache)) == (1, (1, size))
    assert usage(request_.cache) == (0, 0)
    assert stranger.exists()


def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Profile keeps, --no-cache does not, `cache clear` removes."""
    monkeypatch.setenv("ONNX_PIPELINE_CACHE", str(tmp_path / "own"))
    monkeypatch.setattr("onnx_pipeline.costmodel.cache.NOISY", math.inf)
    path = tmp_path / "mlp.onnx"
    onnx.save(builders.mlp(2), path)
    assert main(["profile", str(path), "--profile-runs", "2", "--no-cache", "-q"]) == 0
    assert usage() == (0, 0)
    assert main(["profile", str(path), "--profile-runs", "2", "-q"]) == 0
    capfd.readouterr()
    assert main(["cache", "info"]) == 0
    assert capfd.readouterr().out.startswith("1 profile, ")
    assert main(["cache", "clear"]) == 0
    assert capfd.readouterr().out.startswith("removed 1 profile, ")
    assert usage() == (0, 0)


def test_feeds_of_every_kind_are_found_again(request_: CostRequest) -> None:
    """Lists, maps and strings by their values, not by where they lie; other values are others."""

    def feeds(word: str) -> dict[str, Any]:
        strings = np.array([word, "".join(["b", "c"])], object)  # an address of its own
        return {"s": strings, "l": [np.ones(2), np.zeros(1)], "m": [{1: 0.5}], "o": None}

    measure = Counted()
    for word, calls in (("a", 1), ("a", 1), ("b", 2)):
        cached(measure)(dataclasses.replace(request_, feeds=feeds("".join([word, "x"]))))
        assert measure.calls == calls
    large = np.zeros((2, 5000))
    large[1, 2500] = 1  # where printed arrays are cut short
    for calls, other in enumerate(([np.ones(2)], [large[0]], [large[1]]), 3):
        cached(measure)(dataclasses.replace(request_, feeds={**feeds("ax"), "l": other}))
        assert measure.calls == calls
