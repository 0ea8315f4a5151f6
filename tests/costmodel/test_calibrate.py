"""Calibration: figures that a device file takes, never how large they are."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from onnx_pipeline.cli.entry import main
from onnx_pipeline.costmodel import load_device
from onnx_pipeline.costmodel.calibrate import Calibration, calibrate, quoted, write_device
from onnx_pipeline.costmodel.computed.operator_rates import probes
from onnx_pipeline.errors import UsageError


def test_device_file_reads_back(tmp_path: Path) -> None:
    """What is written is what --device understands, an unlimited link included."""
    found = Calibration(
        "threads", 3e-6, 1e-6, 3e-5, math.inf, {"float32": 1.5e11}, 2e10, 2e-7, {"Conv.int8": 3e11}
    )
    write_device(found.device("mine"), tmp_path / "mine.toml")
    device = load_device(tmp_path / "mine.toml")
    assert device.name == "mine"
    assert device.bandwidth == math.inf
    assert device.transfer_latency == pytest.approx(1e-6)
    assert device.stage_overhead == pytest.approx(3.3e-5)
    assert device.peak_flops == {"float32": 1.5e11}
    assert device.memory_bandwidth == pytest.approx(2e10)
    assert device.operator_rates == {"Conv.int8": 3e11}
    assert "calibrate" in device.source
    write_device(replace(found, operator_rates={}).device("mine"), tmp_path / "mine.toml")
    assert not load_device(tmp_path / "mine.toml").operator_rates


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "line\nbreak", "bell\a\x7f", "ünïcode 🎉", "'", "#", "", "]\udcff"]
)
def test_any_name_reads_back(name: str, tmp_path: Path) -> None:
    """A file may have any name, and the device is called like it."""
    found = Calibration("threads", 3e-6, 1e-6, 3e-5, 1e9, {"float32": 1e11}, 2e10, 2e-7, {name or "x": 3e11})
    write_device(found.device(name), tmp_path / "device.toml")
    assert load_device(tmp_path / "device.toml").name == name.replace("\udcff", "?")


@pytest.mark.parametrize(
    "text", ["", "plain", 'a"b\\c', "\t\n\r\b\f\x00\x1f\x7f\x80", "é 🎉 \u2028", "'''", '"""']
)
def test_quoted_text_reads_back(text: str) -> None:
    """Whatever is in the text."""
    assert tomllib.loads(f"a = {quoted(text)}") == {"a": text}


@pytest.mark.parametrize("transport", ["threads", "processes"])
def test_calibrate(transport: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every figure is positive and the file is accepted."""
    file = tmp_path / "host.toml"
    assert main(["calibrate", "--transport", transport, "-o", str(file), "--json", "-q"]) == 0
    figures = json.loads(capfd.readouterr().out)
    assert figures["transport"] == transport
    assert figures["handover_seconds"] > 0
    assert set(figures["peak_flops"]) == {"float32", "float64", "int8"}
    assert min(figures["peak_flops"].values()) > 0
    assert set(figures["operator_rates"]) == {probe.kind for probe in probes()}
    assert min(figures["operator_rates"].values()) > 0
    assert figures["bandwidth"] is None or figures["bandwidth"] > 0
    assert load_device(file).name == "host"


def test_unknown_transport() -> None:
    """A clear message."""
    with pytest.raises(UsageError, match="pigeons"):
        calibrate("pigeons")
