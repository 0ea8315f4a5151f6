"""The example notebook runs, and what is stored of it is small and of no particular machine."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import nbformat

from benchmarks import notebook as example

#: Jupyter's own affair: what it deprecates, and sockets that it leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("default")

#: A job with a bar, whose pictures are printed at the end.
CELL = """
import time
from IPython.display import DisplayHandle
from onnx_pipeline.progress import shows_progress, silent

pictures, update = [], DisplayHandle.update

def spy(self, shown, **options):
    pictures.append("" if isinstance(shown, dict) else shown._repr_mimebundle_([], [])["text/plain"])
    update(self, shown, **options)

@shows_progress()
def work(*, progress=silent):
    for index in range(3):
        progress("profile", index / 3, f"round {index}")
        time.sleep(0.11)
    progress("note", None, "well")

DisplayHandle.update = spy
work(progress=True)
print(*pictures)
"""


def outputs(notebook: Any) -> list[Any]:
    """Every output of every cell."""
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def text(notebook: Any) -> str:
    """All that cells printed."""
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


@pytest.fixture(scope="module")
def stored() -> Any:
    """The notebook as it is in the repository."""
    return nbformat.read(example.NOTEBOOK, as_version=4)


def test_every_cell_runs(stored: Any) -> None:
    """From costs to a running pipeline; the bar was there and is gone."""
    fresh = deepcopy(stored)
    example.execute(fresh)
    assert any(output.get("data") == example.EMPTY for output in outputs(fresh))
    example.clean(fresh)
    assert len(text(fresh).splitlines()) >= 15
    for shown in ("212 nodes", "inferences/s", "last_hidden_state: ", "four devices"):
        assert shown in text(fresh)
        assert shown in text(stored)


def test_what_is_stored(stored: Any) -> None:
    """Valid, with the outputs of a whole run, in order; no error, no path of a machine, no widget."""
    nbformat.validate(stored)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = [output.output_type for output in outputs(stored)]
    assert set(kinds) == {"stream", "execute_result"}
    (card,) = [output.data for output in outputs(stored) if output.output_type == "execute_result"]
    assert set(card) == {"text/plain", "text/html"}
    content = example.NOTEBOOK.read_text(encoding="utf-8")
    assert len(content) < 30_000
    for trace in (str(Path.home()), "/tmp", "/home", "/work", "\x1b"):
        assert trace not in content
    assert all(not cell.metadata for cell in stored.cells)
    said = "".join(output.text for output in outputs(stored) if output.get("name") == "stdout")
    assert max(len(line) for line in said.splitlines()) <= 80


def test_a_bar_in_a_real_kernel() -> None:
    """One output that is replaced while work goes on; a note is a line on stderr."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    example.execute(notebook)
    bar, *streams = outputs(notebook)
    assert bar.data == example.EMPTY
    said = {stream.name: stream.text for stream in streams}
    assert said["stderr"] == "onnx-pipeline: note: well\n"
    assert "profile" in said["stdout"]
    assert "round 2" in said["stdout"]
