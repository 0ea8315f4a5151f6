"""Parameter objects and the settings that they are made of."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import onnx_pipeline as op
from onnx_pipeline.cli.commands import cli
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.constraints import Demands
from onnx_pipeline.parameters import (
    MeasureParams,
    OutputParams,
    Parameters,
    ProfileParams,
    SearchParams,
    TargetParams,
)
from onnx_pipeline.settings import KEYS, LARGEST, MOST_SECONDS, SETTINGS, load

SETS = [Demands, MeasureParams, OutputParams, ProfileParams, SearchParams, TargetParams]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SearchParams(time_limit=0), "time_limit must be a number of seconds above 0, got 0"),
        (lambda: SearchParams(time_limit=math.nan), "time_limit"),
        (lambda: SearchParams(time_limit="1"), "time_limit"),
        (lambda: SearchParams(time_limit=10**400), "time_limit"),
        (lambda: SearchParams(gap=1), "gap must be a fraction of at least 0 and below 1, got 1"),
        (lambda: SearchParams(gap=True), "gap"),
        (lambda: SearchParams(seed=-1), f"seed must be a whole number from 0 to {LARGEST}, got -1"),
        (lambda: SearchParams(seed=LARGEST + 1), "seed"),
        (lambda: SearchParams(seed=1.5), "seed"),
        (lambda: SearchParams(threads=0), f"threads must be a whole number from 1 to {LARGEST}, got 0"),
        (lambda: SearchParams(exactly=1), "exactly must be true or false, got 1"),
        (lambda: SearchParams(bounds=["simple", "magic"]), "bounds must be names out of simple, min-cut"),
        (lambda: ProfileParams(cost_model=""), "cost_model"),
        (lambda: ProfileParams(dims={"batch": -1}), "dims must be whole numbers"),
        (lambda: ProfileParams(dims={"batch": 2.5}), "dims"),
        (lambda: ProfileParams(inputs=7), "inputs must be a file, got 7"),
        (lambda: ProfileParams(profile_runs=0), "profile_runs"),
        (lambda: ProfileParams(profile_seconds=math.inf), "profile_seconds"),
        (lambda: ProfileParams(custom_ops="lib.so"), "custom_ops must be a list of paths, got 'lib.so'"),
        (lambda: ProfileParams(device=3), "device must be"),
        (lambda: TargetParams(bandwidth=-1), "bandwidth must be positive, got -1"),
        (lambda: TargetParams(bandwidth="16Gb/s"), "ambiguous"),
        (lambda: TargetParams(memory="lots"), "memory"),
        (lambda: TargetParams(memory_mode="soft"), "memory_mode must be 'overflow' or 'hard', got 'soft'"),
        (lambda: OutputParams(weights="move"), "weights must be 'copy', 'link' or 'reference', got 'move'"),
        (lambda: MeasureParams(-1), f"measure must be a whole number from 0 to {LARGEST}, got -1"),
        (lambda: Demands(together=[3]), "together must be a list of groups of nodes"),
        (lambda: Demands(pins={"a": "b"}), "pins"),
    ],
)
def test_ranges(make: Callable[[], Any], message: str) -> None:
    """One line that names the parameter and what it takes, whoever gives the value."""
    with pytest.raises(op.UsageError) as raised:
        make()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("seconds", [math.inf, 1e300])
def test_no_time_limit(seconds: float) -> None:
    """Infinity is none; no solver is told more seconds than its clock counts."""
    assert SearchParams(time_limit=seconds).time_limit == MOST_SECONDS
    builder = op.GraphBuilder("g")
    for name in "abcd":
        builder.add_node(name, 10)
    result = op.plan(
        builder.build(), stages=2, time_limit=seconds, threads=1, demands=Demands(bounds=["mip"])
    )
    assert result.gap == 0


@pytest.mark.parametrize("kind", SETS)
def test_parameter_objects(kind: type[Parameters]) -> None:
    """Frozen, good without arguments, and every field is a setting."""
    made = kind()
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    assert set(names) <= set(SETTINGS)
    with pytest.raises(FrozenInstanceError):
        setattr(made, names[0], None)


def test_values_take_their_final_form() -> None:
    """Quantities as people write them, numbers of numpy, lists and groups in one text."""
    target = TargetParams(bandwidth="16GB/s", memory=np.float32(4096)).target()
    assert (target.bandwidth, target.memory) == (16e9, 4096.0)
    search = SearchParams(time_limit=np.int64(3), threads=np.int64(2), bounds="simple,cp-sat")
    assert (search.time_limit, search.threads, search.bounds) == (3.0, 2, ("simple", "cp-sat"))
    assert search.shared(3).time_limit == 1.0
    demands = Demands(together=["a,b", ["c", "d"]], pins={"a": np.int64(1)})
    assert (demands.together, demands.pins) == ((("a", "b"), ("c", "d")), {"a": 1})


def test_defaults_of_the_facade() -> None:
    """The facade's keyword arguments and the objects that it packs them into agree."""
    defaults = {item.name: item.default for kind in SETS for item in fields(kind)}  # type: ignore[arg-type]
    own = {"device", "demands", "partition", "log", "phases", "progress", "ignore_colocation"}
    own |= {"pins", "together", "no_cut"}  # added to the demands
    own |= {"stages", "devices", "fleet", "stages_per_device"}  # one of the first three must be given
    for function in (op.split, op.profile, op.plan):
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.default is not parameter.empty and name not in own:
                assert parameter.default == defaults[name], (function, name)


def test_how_often_stages_are_measured() -> None:
    """Up to three other partitions for profiled costs, unless something else is asked for."""
    assert MeasureParams().rounds("profile") == 3
    assert MeasureParams().rounds("analytic") == 0
    assert MeasureParams(3).rounds("analytic") == 3


def test_the_devices_of_a_graph() -> None:
    """A graph with transfer times has ideal devices; its own memory limit is for parameters only."""
    builder = GraphBuilder("timed", meta={"file_memory_bytes": 1000, "host_io": False})
    builder.add_net("t", builder.add_node("a", 1), [builder.add_node("b", 1)], nbytes=0, time=10)
    graph = builder.build()
    target = TargetParams(memory="file").target(graph)
    assert (target.name, target.memory, target.activations, target.host_io) == ("ideal", 1000.0, False, False)
    assert TargetParams("edge").target(graph).name == "edge"
    assert TargetParams(op.Device("mine", memory=5.0)).target().memory == 5.0
    with pytest.raises(op.UsageError, match='memory="file" needs one'):
        TargetParams(memory="file").target()


FILE = """
time-limit = 3
bounds = ["simple", "cp-sat"]
profile_runs = 4
bandwidth = "1GB/s"
memory-mode = "hard"
weights = "link"
together = [["a", "b"], "c,d"]
no-cut = ["t"]
measure = 0
stages = 4
json = true
[dim]
batch = 8
[pin]
"conv.1" = 2
"""


def test_the_same_file_fills_every_object(tmp_path: Path) -> None:
    """Each takes its own settings, by the option's name; all others keep their defaults."""
    path = tmp_path / "c.toml"
    path.write_text(FILE)
    assert SearchParams.from_toml(path) == SearchParams(time_limit=3.0, bounds=("simple", "cp-sat"))
    profile = ProfileParams.from_toml(path)
    assert (profile.dims, profile.profile_runs, profile.cost_model) == ({"batch": 8}, 4, "profile")
    assert TargetParams.from_toml(path) == TargetParams(bandwidth=1e9, memory_mode="hard")
    assert OutputParams.from_toml(path).weights == "link"
    assert MeasureParams.from_toml(path).measure == 0
    demands = Demands.from_toml(path)
    assert demands.together == (("a", "b"), ("c", "d"))
    assert (demands.uncut, demands.pins) == (("t",), {"conv.1": 2})
    assert load(path)["stages"] == 4


def test_keys_are_the_options() -> None:
    """Every option of the commands that read a file has its key, and there are no others."""
    options: dict[str, str] = {}
    for name in ("split", "profile", "plan"):
        for option in cli.commands[name].params:
            if isinstance(option, click.Option) and option.name and option.expose_value:
                options[option.name] = max(option.opts, key=len).lstrip("-")
    assert options == KEYS
