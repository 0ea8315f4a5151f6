"""The example notebook with the outputs of a run: executed in a folder of its own, stored without its traces.

    python -m benchmarks.notebook [--output FILE]

executes ``docs/examples/pipeline.ipynb`` and stores it, by default in its place.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "examples" / "pipeline.ipynb"
#: The output of a bar that has been taken away.
EMPTY = {"text/plain": ""}


def execute(notebook: Any) -> None:
    """Run all cells in a folder of their own; their outputs are the notebook's then.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    modules = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=120, coalesce_streams=True, resources=place)
        client.execute(env={**os.environ, "PYTHONPATH": modules, "ONNX_PIPELINE_CACHE": folder})


def clean(notebook: Any) -> None:
    """Remove what tells one run from another, and what progress bars leave behind."""
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("data") != EMPTY]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=NOTEBOOK)
    output = parser.parse_args().output
    example = nbformat.read(NOTEBOOK, as_version=4)
    execute(example)
    clean(example)
    nbformat.write(example, output)
