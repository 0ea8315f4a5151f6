"""A third party's package, really installed: its cost model, devices and pass work by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from models import builders

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plug-in installed by pip, as ``--target`` does it."""
    folder = tmp_path_factory.mktemp("plugin")
    # pip writes build/ and *.egg-info beside the sources: work on a copy.
    source = shutil.copytree(PLUGIN, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += [
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder / "site"),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return folder / "site"


def python(code: str, site: Path | None, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh process that sees the plug-in, if ``site`` is given."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_cost_model_and_device_by_name(site: Path, tmp_path: Path) -> None:
    """``split`` prices with the installed cost model for the installed device; the manifest says so."""
    model = tmp_path / "model.onnx"
    onnx.save(builders.mlp(), model)
    code = (
        "import sys; from onnx_pipeline.cli.entry import main\n"
        "sys.exit(main(['split', sys.argv[1], '-k', '2', '-o', sys.argv[2], '--time-limit', '1',"
        " '--cost-model', 'one-microsecond', '--device', 'example-board']))"
    )
    done = python(code, site, model, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["cost_model"]["kind"] == manifest["cost_model"]["name"] == "one-microsecond"
    assert manifest["cost_model"]["version"] == "1.0"
    assert manifest["target"]["device"] == "example-board"
    assert manifest["target"]["bandwidth_bytes_per_second"] == 2e9
    work = [stage["cost"]["work_seconds"] for stage in manifest["stages"]]
    assert sum(work) == pytest.approx(8e-6)


def test_device_as_function(site: Path) -> None:
    """A device entry point may be a function that returns the device."""
    code = "from onnx_pipeline.costmodel import load_device; print(load_device('example-board-small').memory)"
    assert float(python(code, site).stdout) == 1 << 18


def test_foreign_pass_in_the_pipeline(site: Path, tmp_path: Path) -> None:
    """A pass of another package stands in for PartitionPass, found by its name in the registry."""
    model = tmp_path / "model.onnx"
    onnx.save(builders.mlp(), model)
    code = (
        "import sys\n"
        "from onnx_ir.passes import PassManager\n"
        "from onnx_pipeline.model.source import load\n"
        "from onnx_pipeline.passes import load_pass, pass_names\n"
        "assert 'equal-counts' in pass_names()\n"
        "source = load(sys.argv[1])\n"
        "emit = load_pass('emit')(source, output=sys.argv[2])\n"
        "profile = load_pass('profile')(source, cost_model='one-microsecond')\n"
        "PassManager([profile, load_pass('equal-counts')(4), emit])(source.ir)\n"
        "print([stage.nodes for stage in emit.manifest.stages])\n"
    )
    done = python(code, site, model, tmp_path / "out")
    assert done.stdout.strip() == "[2, 2, 2, 2]", done.stderr


def test_broken_plugin_is_one_line(site: Path, tmp_path: Path) -> None:
    """A plug-in that cannot be loaded is a usage error that names it, not a traceback."""
    model = tmp_path / "model.onnx"
    onnx.save(builders.mlp(), model)
    code = (
        "import sys; from onnx_pipeline.cli.entry import main\n"
        "sys.exit(main(['split', sys.argv[1], '-k', '2', '-o', sys.argv[2], '--cost-model', 'broken']))"
    )
    done = python(code, site, model, tmp_path / "out")
    assert done.returncode == 2
    assert "'broken'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_the_plugin_the_names_are_unknown() -> None:
    """The test above does not pass by accident: nothing of this is built in."""
    code = (
        "from onnx_pipeline.costmodel import cost_model\n"
        "try:\n    cost_model('one-microsecond')\n"
        "except Exception as error:\n    print(type(error).__name__)"
    )
    assert python(code, None).stdout.strip() == "UsageError"
