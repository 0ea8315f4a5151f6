"""What README and documentation show is true: examples run, commands parse, names and links exist."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline.cli.commands import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))}


def blocks(page: str, language: str) -> list[str]:
    """Fenced code of one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page].read_text(encoding="utf-8"), re.DOTALL)


def commands(page: str) -> Iterator[str]:
    """Command lines of the program: after a prompt, or indented as in the README."""
    for line in PAGES[page].read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"(?:    |\$ )(onnx-pipeline .*)", line):
            yield found[1]


def write_config() -> None:
    """Write the example of the page on configuration files."""
    (block,) = blocks("docs/guides/config.md", "toml")
    Path("split.toml").write_text(block, encoding="utf-8")


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An empty folder with a small ``model.onnx``, and the variables that examples may use."""
    monkeypatch.chdir(tmp_path)
    write_config()
    onnx.save(builders.mlp(width=8, batch="batch"), "model.onnx")
    x = np.zeros((1, 8), np.float32)
    return {"np": np, "x": x, "stream": [x] * 3}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_examples_run(page: str, names: dict[str, Any], light_dir: Path) -> None:
    """All blocks of a page run in order; a page that does not split a model itself finds one in ``out``."""
    code = blocks(page, "python")
    if "op.report(" in "".join(code):
        pytest.importorskip("vl_convert", reason="charts need vl-convert-python")
        pytest.importorskip("pygraphviz", reason="graphs need pygraphviz")
    if 'output="out"' not in "".join(code):
        model = light_dir / "light_resnet50.onnx" if page.endswith("tutorial.md") else "model.onnx"
        op.split(model, stages=2, output="out", cost_model="analytic")
    for block in code:
        exec(compile(block, page, "exec", dont_inherit=True), names)
    if "handle" in names:
        with op.PipelineSession("out") as session:
            assert asyncio.run(names["handle"](session, names["x"])).shape == (1, 8)
    if "by_output_size" in names:
        check_cost_model(names["by_output_size"])


def check_cost_model(example: op.CostModel) -> None:
    """Price the model with the cost model of the page on plug-ins, as if it were installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnx_pipeline.costmodel.load_plugin", lambda group, name: example)
        assert op.profile("model.onnx", cost_model="output-size").work.min() >= 500


def test_the_device_file_loads(tmp_path: Path) -> None:
    """The example of the page on devices is a device."""
    (block,) = blocks("docs/guides/devices.md", "toml")
    path = tmp_path / "my-device.toml"
    path.write_text(block, encoding="utf-8")
    assert op.load_device(path).memory == 16 << 30


def test_the_fleet_files_load(tmp_path: Path) -> None:
    """The examples of the page on fleets are fleets."""
    common, shared = blocks("docs/guides/fleets.md", "toml")
    path = tmp_path / "fleet.toml"
    path.write_text(common, encoding="utf-8")
    assert op.load_fleet(path).text == "2 gpu and 6 cpu"
    path.write_text(shared, encoding="utf-8")
    assert op.load_fleet(path).stages_per_device is None


def test_the_costs_file_loads(tmp_path: Path) -> None:
    """The example of COSTS.json is one."""
    (block,) = blocks("docs/formats.md", "json")
    path = tmp_path / "costs.json"
    path.write_text(block, encoding="utf-8")
    assert op.read_graph(path).node_names == ("conv", "relu")


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))])
def test_command_lines_parse(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option in them exists and takes the value that it is given."""
    monkeypatch.chdir(tmp_path)
    write_config()
    for line in commands(page):
        _, *arguments = shlex.split(line, comments=True)
        command: click.Command = cli
        while isinstance(command, click.Group):
            command = command.commands[arguments.pop(0)]
        command.make_context(command.name, arguments)


@pytest.mark.parametrize("page", PAGES)
def test_modules_and_make_targets_exist(page: str) -> None:
    """``python -m ...`` names a module of this repository, ``make ...`` a target."""
    text = PAGES[page].read_text(encoding="utf-8")
    for module in re.findall(r"python -m ((?:benchmarks|models)\.\w+)", text):
        assert find_spec(module) is not None, module
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for targets in re.findall(r"(?:`|^    )make ((?:[a-z]+ ?)+)", text, re.MULTILINE):
        for target in targets.split():
            assert f"\n{target}:" in makefile, target


def test_links_of_the_readme_exist() -> None:
    """The documentation's own links are checked while the site is built."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGES["README.md"].read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target


def test_the_reference_is_complete() -> None:
    """Every public name is documented."""
    reference = (ROOT / "docs" / "reference" / "api.rst").read_text(encoding="utf-8")
    documented = {
        name.rpartition(".")[2] for name in re.findall(r"^\.\. \w+:: ([\w.]+)", reference, re.MULTILINE)
    }
    assert set(op.__all__) - {"__version__"} <= documented
