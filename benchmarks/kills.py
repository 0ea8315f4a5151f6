"""Kills at random points of a split over an existing output: ``python -m benchmarks.kills --count 100``.

A child process runs ``split --force`` over an existing output and gets SIGKILL, SIGTERM or SIGINT after a
random part of the time that such a run takes. Afterwards the output must verify: it is the old one, or the
new one if the signal came after the swap. The next undisturbed run must leave nothing but its output.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import onnx

from models import builders

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def _split(folder: Path, stages: int) -> None:
    """Run the command line in this (forked) process."""
    from onnx_pipeline.cli.entry import main

    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    arguments = ["split", "model.onnx", "-k", str(stages), "-o", "out", "--force", "-q"]
    os._exit(main([*arguments, "--cost-model", "analytic", "--time-limit", "0.2", "--threads", "1"]))


def _start(folder: Path, stages: int) -> Any:
    process = multiprocessing.get_context("fork").Process(target=_split, args=(folder, stages))
    process.start()
    return process


def _seconds(folder: Path) -> float:
    begin = time.monotonic()
    _start(folder, 2).join()
    return time.monotonic() - begin


def campaign(folder: Path, count: int, seed: int = 0, width: int = 700) -> dict[str, Any]:
    """Kill ``count`` runs; return counts and every problem."""
    import onnx_pipeline.pipeline
    import onnx_pipeline.verification.outputs
    from onnx_pipeline.verification.checks import inspect

    onnx.save(builders.mlp(layers=6, width=width), folder / "model.onnx")
    chance = random.Random(seed)
    problems: list[str] = []
    exits: Counter[str] = Counter()
    states: Counter[str] = Counter()
    left = 0
    # Load everything here, so that children spend their time on the split itself.
    onnx_pipeline.pipeline.split(
        folder / "model.onnx", stages=2, output=folder / "out", cost_model="analytic", time_limit=0.2
    )
    duration = min(_seconds(folder) for _ in range(4))
    index = runs = 0
    while index < count:
        runs += 1
        before = (folder / "out" / "manifest.json").read_bytes()
        process = _start(folder, 2 + runs % 3)
        time.sleep(chance.random() * duration)
        number = SIGNALS[index % len(SIGNALS)]
        os.kill(process.pid, number)
        process.join()
        if process.exitcode == 0:
            continue  # it had ended by itself
        index += 1
        exits[f"{number.name} -> {process.exitcode}"] += 1
        report = inspect(folder / "out")
        problems += [f"kill {index}: {problem}" for problem in report.problems]
        same = (folder / "out" / "manifest.json").read_bytes() == before
        states["old output" if same else "new output"] += 1
        left += len(list(folder.iterdir())) - 2
    process = _start(folder, 2)
    process.join()
    if process.exitcode != 0:
        problems.append(f"the run after the kills ends with {process.exitcode}")
    rest = sorted(path.name for path in folder.iterdir() if path.name != ".ses")
    if rest != ["model.onnx", "out"]:
        problems.append(f"left behind: {rest}")
    whole = inspect(folder / "out", model=folder / "model.onnx")
    problems += [f"at the end: {problem}" for problem in whole.problems]
    return {
        "kills": count,
        "runs": runs,
        "seed": seed,
        "run_seconds": round(duration, 3),
        "exit_codes": dict(exits),
        "found": dict(states),
        "temporary_items_seen_after_kills": left,
        "problems": problems,
    }


def main() -> int:
    """Run a campaign and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        found = campaign(Path(folder), options.count, options.seed)
    print(json.dumps(found, indent=1))
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
