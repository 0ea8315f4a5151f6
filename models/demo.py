"""The demonstration, ``make demo``: split a real model for eight devices and verify the result.

The model is ResNet-50 as the onnx package ships it for its own tests (``light_resnet50.onnx``): the full
architecture with its weights replaced by constants, 80 kB, so nothing has to be downloaded.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import onnx

from onnx_pipeline.cli.entry import main

MODEL = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_resnet50.onnx"
OUTPUT = Path("demo") / "light_resnet50-k8"


def demo(output: Path = OUTPUT, extra: tuple[str, ...] = ()) -> int:
    """Split and verify into ``output``, printing each command; return the first exit code that is not 0.

    Parameters
    ----------
    output : Path
        Directory of the split; replaced if it exists.
    extra : tuple of str
        Further options of ``split``.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    for command in (
        ["split", str(MODEL), "-k", "8", "-o", str(output), "--force", *extra],
        ["verify", str(output), "--model", str(MODEL)],
    ):
        print(f"$ onnx-pipeline {shlex.join(command)}", flush=True)
        code = _run(command)
        if code:
            return code
        print(flush=True)
    return 0


def _run(command: list[str]) -> int:
    """Run the real command line in this process and return its exit code."""
    try:
        return main(command) or 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


if __name__ == "__main__":
    raise SystemExit(demo())
