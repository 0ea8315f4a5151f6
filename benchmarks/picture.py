"""The picture of the README: real output of ``split``, drawn by rich.

    python -m benchmarks.picture [MODEL] [-k K]

splits the model (by default DenseNet-121 as the onnx package ships it) and writes ``docs/split.svg``.
"""

from __future__ import annotations

import argparse
import io
import re
import tempfile
from pathlib import Path

import onnx
from rich.console import Console

import onnx_pipeline as op
from onnx_pipeline.cli.tables import render

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
TARGET = Path(__file__).resolve().parent.parent / "docs" / "split.svg"
#: Wide enough for the table with measured times; texts are folded.
WIDTH = 104


def draw(model: Path, stages: int, target: Path = TARGET) -> None:
    """Split into a temporary directory and save what the command prints as SVG."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = op.split(model, stages=stages, output=Path(folder) / "out")
    console = Console(record=True, file=io.StringIO(), width=WIDTH, force_terminal=True, highlight=False)
    console.print(f"$ onnx-pipeline split {model.name} -k {stages}", style="bold green")
    document = manifest.to_json()
    del document["phases"]  # the seconds spent are another machine's
    render(console, document)
    # The reader's own monospace font, instead of one that would be fetched from elsewhere.
    svg = console.export_svg(title="onnx-pipeline", unique_id="split")
    svg = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas")
    target.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=LIGHT / "light_densenet121.onnx")
    parser.add_argument("-k", type=int, default=8)
    arguments = parser.parse_args()
    draw(arguments.model, arguments.k)
