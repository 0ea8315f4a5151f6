"""Device descriptions: built in, in TOML files, from plug-ins."""

from __future__ import annotations

import math
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from onnx_pipeline.costmodel import devices, plugins
from onnx_pipeline.costmodel.devices import (
    CALIBRATED,
    Device,
    built_in_devices,
    load_device,
    measured_elsewhere,
)
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.graph.ticks import NS


def write(path: Path, text: str) -> Path:
    """Write a device file."""
    path.write_text(text, encoding="utf-8")
    return path


def test_built_in_devices() -> None:
    """The devices of the documentation load and have the properties they are there for."""
    assert built_in_devices() == ["cpu", "gpu", "edge", "ideal"]
    cpu, gpu, edge, ideal = (load_device(name) for name in built_in_devices())
    assert ideal.target() == Device("ideal").target()
    assert math.isinf(cpu.memory)
    assert math.isfinite(cpu.bandwidth)
    assert gpu.flops("float16") > gpu.flops("float32") > cpu.flops("float32")
    assert edge.memory == 8 * 2**20


def test_every_figure_has_a_source() -> None:
    """No built-in figure without the text that says where it is from, and no text without a figure."""
    table = tomllib.loads(Path(devices.__file__).with_name("devices.toml").read_text(encoding="utf-8"))
    for name, figures in table.items():
        assert set(figures["source"]) == set(figures) - {"source"}, name
        assert all(text.strip() for text in figures["source"].values()), name


def test_target_carries_the_figures() -> None:
    """What the partitioner sees is what the device says, in seconds and bytes."""
    device = load_device("cpu")
    target = device.target(host_io=False)
    assert (target.bandwidth, target.memory) == (device.bandwidth, device.memory)
    assert target.overhead_ticks(NS) == 35_000
    assert target.transfer_ticks(np.array([10_000]), NS) == [2_000 + 1_000]
    assert not target.host_io
    assert target.name == "cpu"


def test_user_file(tmp_path: Path) -> None:
    """A file may give a few keys, with units or as numbers; its stem is the default name."""
    path = write(
        tmp_path / "board.toml",
        'bandwidth = "1GB/s"\nmemory = 1024\nstage_overhead = "5us"\npeak_flops = { int8 = 1e12 }\n',
    )
    device = load_device(str(path))
    assert device.name == "board"
    assert (device.bandwidth, device.memory, device.stage_overhead) == (1e9, 1024, 5e-6)
    assert device.flops("float32") == 1e12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bandwith = 1", "unknown key 'bandwith'"),
        ("bandwidth = -1", "bandwidth must be positive"),
        ("bandwidth = [1]", r"bandwidth \[1\] is not a quantity"),
        ('memory = "8 parsecs"', "unknown unit 'parsecs'"),
        ("memory = nan", "memory: not a number"),
        ("transfer_latency = inf", "transfer_latency must be finite"),
        ("stage_overhead = true", "stage_overhead True is not a quantity"),
        ("peak_flops = 3", "peak_flops must be a table"),
        ("peak_flops = {}", "peak_flops must be a table"),
        ('peak_flops = { float32 = "fast" }', "peak_flops.float32 must be a number"),
        ("peak_flops = { float32 = 0 }", "peak_flops.float32 must be positive"),
        ("source = 3", "source must be text"),
        ("name = ", "not valid TOML"),
    ],
)
def test_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    """Every mistake is one line that names the file and the key."""
    path = write(tmp_path / "wrong.toml", text)
    with pytest.raises(InputError, match=message) as caught:
        load_device(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    """Missing files, directories and binary files are input errors."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.toml", tmp_path, binary):
        with pytest.raises(InputError, match=str(path)):
            load_device(path)


def test_unknown_name_lists_the_known() -> None:
    """A name that is no file lists what there is."""
    with pytest.raises(UsageError, match=r"unknown device 'tpu'.*cpu, gpu, edge"):
        load_device("tpu")


def test_out_of_range_device() -> None:
    """Devices made in Python are checked like files."""
    with pytest.raises(UsageError, match="launch_overhead"):
        Device("x", launch_overhead=-1.0)


def test_quantities_in_python() -> None:
    """A device made in Python reads what a file may hold, where it is given."""
    device = Device("x", bandwidth="1GB/s", memory="8GiB", stage_overhead="5us")  # type: ignore[arg-type]
    assert (device.bandwidth, device.memory, device.stage_overhead) == (1e9, 8 * 2**30, 5e-6)
    assert device.target().bandwidth == 1e9
    for wrong in ({"bandwidth": "fast"}, {"memory": None}, {"peak_flops": {"float32": 10**400}}, {"name": 3}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Device(**{"name": "x", **wrong})  # type: ignore[arg-type]
    assert Device("x", memory=10**400).memory == math.inf


def make_device() -> Device:
    """Stand in for a plug-in's function."""
    return Device("third-party", bandwidth=1.0)


def test_plugin_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point may hold a device or a function that makes one; anything else is refused."""
    here = "tests_costmodel_plugin"
    module = type(pytest)(here)
    module.made, module.device, module.wrong = make_device, make_device(), object()  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, here, module)
    points = [
        EntryPoint(name, f"{here}:{name}", devices.DEVICE_GROUP)
        for name in ("made", "device", "wrong", "absent")
    ]

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [p for p in points if p.group == group and name in (None, p.name)]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    assert load_device("made") == load_device("device") == make_device()
    with pytest.raises(UsageError, match="not a Device"):
        load_device("wrong")
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_device("absent")
    with pytest.raises(UsageError, match="absent, device, made, wrong"):
        load_device("unheard-of")
    assert plugins.plugin_names("onnx_pipeline.nothing") == []


def test_costs_of_another_device_are_told_of() -> None:
    """Timings of a CPU say nothing about a GPU; a calibrated device is about those of this machine."""
    timed = {"cost_model": "profile", "provider": "CPUExecutionProvider"}
    computed = {"cost_model": "analytic", "device": "cpu"}
    calibrated = Device("host", source=f"{CALIBRATED} on a processor")
    gpu = load_device("gpu")
    assert measured_elsewhere(timed, gpu) == (
        "the work of nodes was timed on CPUExecutionProvider, not on gpu: "
        "only links and memory are those of gpu"
    )
    assert "timed on CPUExecutionProvider, not on board:" in str(measured_elsewhere(timed, Device("board")))
    assert "was computed for cpu, not for gpu:" in str(measured_elsewhere(computed, gpu))
    for meta in (timed, computed):
        for device in (load_device("cpu"), load_device("ideal")):
            assert measured_elsewhere(meta, device) is None
    assert measured_elsewhere(timed, calibrated) is None
    assert measured_elsewhere(timed | {"provider": "CUDAExecutionProvider"}, gpu) is None
    assert measured_elsewhere({"cost_model": "file"}, gpu) is None
    assert measured_elsewhere({}, gpu) is None
