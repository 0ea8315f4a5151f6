"""Fleet files: what they say, and how errors in them are told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from onnx_pipeline.costmodel.devices import load_device
from onnx_pipeline.costmodel.fleets import DeviceKind, Fleet, load_fleet
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.figures import fleet_text
from onnx_pipeline.graph.builder import GraphBuilder

COMMON = """
[[device]]
device = "gpu"
count = 2
[[device]]
device = "cpu"
count = 6
"""


def write(path: Path, text: str) -> Path:
    """Write a fleet file."""
    path.write_text(text, encoding="utf-8")
    return path


def test_the_common_case(tmp_path: Path) -> None:
    """Device names and counts are enough."""
    fleet = Fleet.read(write(tmp_path / "f.toml", COMMON))
    assert [kind.name for kind in fleet.kinds] == ["gpu", "cpu"]
    assert fleet.devices == (0, 0, 1, 1, 1, 1, 1, 1)
    assert (fleet.free, fleet.stages_per_device) == (False, 1)
    target = fleet.target()
    assert target.kinds[0].target.bandwidth == load_device("gpu").bandwidth
    assert [kind.name for kind in target.kinds] == ["gpu", "cpu"]
    assert target.devices == fleet.devices
    assert repr(fleet) == "<Fleet 2 gpu and 6 cpu>"


def test_every_key(tmp_path: Path) -> None:
    """Each key arrives where it belongs, quantities with units."""
    path = write(
        tmp_path / "f.toml",
        'order = "any"\nstages_per_device = "any"\n[[device]]\nname = "fast"\ndevice = "gpu"\n'
        'speed = 2.5\nprovider = "CUDAExecutionProvider"\nprovider_options = { device_id = "0" }\n'
        'threads = 2\nmemory = "1GiB"\nmemory_mode = "hard"\nactivations = false\nbandwidth = "1GB/s"\n'
        'transfer_latency = "3us"\nstage_overhead = "4us"\nunsupported = ["TopK", "head/*"]\n',
    )
    fleet = Fleet.read(path)
    (kind,) = fleet.kinds
    assert (kind.speed, kind.provider, kind.provider_options) == (
        2.5,
        "CUDAExecutionProvider",
        {"device_id": "0"},
    )
    assert (kind.threads, kind.unsupported, fleet.source) == (2, ("TopK", "head/*"), path)
    target = fleet.target().kinds[0].target
    assert (target.memory, target.memory_mode, target.activations) == (2**30, "hard", False)
    assert (target.bandwidth, target.transfer_latency, target.stage_overhead) == (1e9, 3e-6, 4e-6)
    assert (target.name, fleet.free, fleet.stages_per_device) == ("fast", True, None)


def test_files_beside_the_fleet(tmp_path: Path) -> None:
    """Device and cost files are found beside the fleet file, whatever the working directory."""
    write(tmp_path / "board.toml", 'bandwidth = "5MB/s"\n')
    write(tmp_path / "own.csv", "node,work_us\na,1\n")
    path = write(tmp_path / "f.toml", '[[device]]\ndevice = "board.toml"\ncosts = "own.csv"\n')
    (kind,) = Fleet.read(path).kinds
    assert (kind.name, kind.figures.bandwidth) == ("board", 5e6)
    assert kind.costs == str(tmp_path / "own.csv")


def test_orders() -> None:
    """Equal entries are one kind; an order by name says how many there are."""
    slow, fast = {"name": "slow", "speed": 0.5}, {"name": "fast"}
    assert Fleet.from_table({"device": [slow, fast, slow]}).devices == (0, 1, 0)
    fleet = Fleet.from_table({"device": [slow, fast], "order": ["slow", "fast", "slow", "slow"]})
    assert fleet.devices == (0, 1, 0, 0)
    counted = {"device": [slow | {"count": 2}, fast], "order": ["fast", "slow", "slow"]}
    assert Fleet.from_table(counted).devices == (1, 0, 0)
    assert Fleet.from_table({"device": [slow, fast], "order": "any"}).free


def test_a_fleet_in_words() -> None:
    """Runs of equal devices are counted; where the order is free, all are."""
    names = ["slow", "fast"]
    assert fleet_text(names, (0, 1, 0), free=False) == "1 slow, 1 fast and 1 slow"
    assert fleet_text(names, (0, 1, 0), free=True) == "2 slow and 1 fast, in any order"
    assert fleet_text(names, (1, 1, 0), free=False) == "2 fast and 1 slow"
    assert fleet_text(names, (1,), free=True) == "1 fast"


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({}, "a fleet lists its devices; begin each with a line [[device]]"),
    ({"device": [{"device": "gqu"}]}, "device 1: unknown device 'gqu'"),
    ({"device": [{"name": "x", "bandwith": 1}]}, "device 1 (x): unknown key 'bandwith'"),
    ({"device": [{"count": 0}]}, "count must be a whole number from 1 to 100000, got 0"),
    ({"device": [{"count": True}]}, "count must be a whole number from 1 to 100000, got True"),
    ({"device": [{"speed": 0}]}, "speed must be a number from 1e-6 to 1e6"),
    ({"device": [{"speed": 2, "costs": "profile"}]}, "give one of them"),
    ({"device": [{"memory": "many"}]}, "device 1: memory"),
    ({"device": [{"memory_mode": "soft"}]}, "memory_mode must be 'overflow' or 'hard'"),
    ({"device": [{"unsupported": "TopK"}]}, 'unsupported must be a list such as ["LayerNormalization"'),
    ({"device": [{"provider_options": {"a": 1}}]}, "provider_options without a provider"),
    ({"device": [{"threads": 1}, {"threads": 2}]}, "differs in threads; give each kind a name of its own"),
    ({"device": [{}], "links": [[1]]}, "links belong to devices: give bandwidth and transfer_latency"),
    ({"device": [{}], "speed": 1}, "it belongs to a [[device]]"),
    ({"device": [{}], "order": "free"}, 'order must be "fixed", "any" or a list of names'),
    ({"device": [{}], "order": ["cpi"]}, "did you mean 'cpu'?"),
    ({"device": [{"count": 2}], "order": ["cpu"]}, "order has 'cpu' 1 time, but there are 2 devices of it"),
    ({"device": [{}], "stages_per_device": 0}, 'stages_per_device must be a whole number from 1 or "any"'),
    ({"device": ["gpu"]}, "device 1 is no table"),
    ({"device": [{"count": 100_000}, {"count": 1}]}, "at most 100000 devices"),
]


@pytest.mark.parametrize(("table", "message"), ERRORS, ids=[message for _, message in ERRORS])
def test_errors_name_entry_key_and_remedy(table: dict[str, Any], message: str) -> None:
    """Every mistake is one line that says what to do."""
    with pytest.raises(UsageError) as caught:
        Fleet.from_table(table)
    assert message in str(caught.value)


def test_errors_of_files_name_the_file(tmp_path: Path) -> None:
    """Mistakes in a file, or in one that it names, are told with its path."""
    path = write(tmp_path / "f.toml", "[[device]]\ncount = -1\n")
    with pytest.raises(InputError, match="device 1: count must") as caught:
        Fleet.read(path)
    assert caught.value.source == str(path)
    write(tmp_path / "board.toml", "speed = 1\n")
    with pytest.raises(InputError, match="unknown key 'speed'") as caught:
        Fleet.read(write(path, '[[device]]\ndevice = "board.toml"\n'))
    assert caught.value.source == str(tmp_path / "board.toml")
    with pytest.raises(InputError, match="cannot be read: no such file"):
        Fleet.read(tmp_path / "none.toml")


def test_a_fleet_in_each_of_its_forms(tmp_path: Path) -> None:
    """A path, a table or a Fleet does; nothing else."""
    path = write(tmp_path / "f.toml", COMMON)
    read = load_fleet(path)
    assert load_fleet(str(path)) == read
    assert load_fleet(read) is read
    assert load_fleet({"device": [{}]}).devices == (0,)
    with pytest.raises(UsageError, match="fleet must be"):
        load_fleet(3)  # type: ignore[arg-type]
    own = Fleet((DeviceKind("a", "gpu"), DeviceKind("b", "ideal", speed=2)), (1, 0))
    assert math.isinf(own.target().kinds[1].target.bandwidth)


def test_graphs_decide_on_host_transfers() -> None:
    """Whether model inputs and outputs are paid for is the graph's to say, as with one device."""
    builder = GraphBuilder("g", meta={"host_io": False})
    builder.add_node("a", 1)
    fleet = Fleet.from_table({"device": [{}]})
    assert not fleet.target(builder.build()).kinds[0].target.host_io
    assert fleet.target().kinds[0].target.host_io
