"""Forged manifests, cost and plan files, given to every command that reads them.

``python -m benchmarks.forgery --count 2000`` mutates fields, types, sizes and references at random. Every
command must refuse a forgery in one line or do what it always does; none may hang, need more than 2 GB or end
in a traceback, and ``verify --model`` must notice whatever changes what the certificate means.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import random
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import onnx_pipeline as op
from onnx_pipeline.cli import main

MODEL = """<ir_version: 8, opset_import: ["" : 20]>
m (float[N, 16] x) => (float[N, 16] y) <float[16] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}> {
    a = Relu(x)  b = Neg(a)  c = Add(b, w)  d = Mul(c, a)  e = Tanh(d)  f = Sub(e, b)  y = Abs(f)
}"""
#: Devices of two kinds, of which one lacks an operator; one stage on each.
FLEET = """
[[device]]
name = "fast"
device = "ideal"
speed = 2
unsupported = ["Tanh"]
[[device]]
name = "slow"
device = "ideal"
count = 2
"""
#: No command may take longer on these files, or more memory than this on top of the libraries'.
SECONDS, BYTES = 20.0, 2 << 30
#: What replaces a value: other types, limits of types, references to nothing, control characters.
VALUES: tuple[Any, ...] = (
    *(None, True, "", "model", "x", "\x1b[2J", "../x", "/etc/passwd", [], {}, [[]], {"a": 1}),
    *(0, 1, -1, 2, 3, 7, 0.5, 1.0, -0.5, 1e-300, 1e18, 1e30, 1e300, 10**9, 2**31, 2**53, 2**62, 10**30),
    *(10**40, float("nan"), float("inf"), "a" * 10_000),
)
Path_ = tuple[str | int, ...]


class Overtime(BaseException):
    """A command that does not end."""


def mutate(document: Any, rng: random.Random) -> str:
    """Change one place of a JSON document; return what was done."""
    places = list(_places(document))
    where = rng.choice(places)
    parent = document
    for key in where[:-1]:
        parent = parent[key]
    key, value = where[-1], parent[where[-1]]
    kind = rng.choice(("replace", "scale", "delete", "repeat", "swap", "borrow"))
    if kind == "scale" and isinstance(value, int | float) and not isinstance(value, bool):
        factor = rng.choice((0.5, 0.9, 1.1, 2, 100))
        parent[key] = int(value * factor) + 1 if isinstance(value, int) else value * factor
    elif kind == "delete":
        del parent[key]
    elif kind == "repeat" and isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(value))
    elif kind == "swap" and isinstance(parent, list):
        rng.shuffle(parent)
    elif kind == "borrow":
        other: Any = document
        for step in rng.choice(places):
            other = other[step]
        parent[key] = copy.deepcopy(other)
    else:
        parent[key] = rng.choice(VALUES)
    return f"{kind} {'.'.join(map(str, where))}"


def _places(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    if at:
        yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _places(value[key], (*at, key))


def meaning(document: dict[str, Any]) -> Any:
    """Return what the certificate says: figures, partition, interfaces; not labels, times and targets.

    A target that was changed is another problem, whose certificate was recomputed like any.
    """
    manifest = copy.deepcopy(document)
    for stage in manifest["stages"]:
        stage["node_names"] = sorted(stage["node_names"])
    certificate = {k: v for k, v in manifest["certificate"].items() if k != "bounds"}
    runtime = ("measured", "providers", "threads", "execution_order")
    stages = [{k: v for k, v in stage.items() if k not in runtime} for stage in manifest["stages"]]
    return certificate, stages, manifest["model"]["inputs"], manifest["model"]["outputs"]


def same(first: Any, second: Any) -> bool:
    """Compare documents; times may differ by less than a tick, and what is not there claims nothing."""
    if isinstance(first, float | int) and isinstance(second, float | int):
        return abs(first - second) <= 1e-9 * max(abs(first), abs(second))
    if isinstance(first, dict) and isinstance(second, dict):
        return all(same(first[key], second[key]) for key in first.keys() & second.keys())
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


class Campaign:
    """Splits, one with replicas and one on a fleet, their costs and plans; what became of their forgeries."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.model = folder / "m.onnx"
        onnx.save(onnx.parser.parse_model(MODEL), self.model)
        np.savez(folder / "x.npz", x=np.ones((1, 16), np.float32))
        self.out, self.mixed = folder / "out", folder / "mixed"
        op.split(self.model, stages=3, output=self.out, cost_model="analytic", time_limit=0.3, threads=1)
        costs = str(self.out / "costs.json")
        self.run(["plan", costs, "-k", "3", *QUICK, "-o", str(folder / "plan.json")])
        # Two or three of its nodes fit a device.
        limited: dict[str, Any] = {"memory": 200, "memory_mode": "hard", "device": "ideal"}
        op.split(self.model, devices=5, output=self.mixed, cost_model="analytic", time_limit=0.3, **limited)
        limits = ["--memory", "200B", "--memory-mode", "hard", "--device", "ideal"]
        self.run(["plan", costs, "--devices", "5", *limits, *QUICK, "-o", str(folder / "mixed.json")])
        self.placed = folder / "placed"
        (folder / "fleet.toml").write_text(FLEET)
        fleet: dict[str, Any] = {"fleet": folder / "fleet.toml", "cost_model": "analytic", "time_limit": 0.3}
        op.split(self.model, output=self.placed, **fleet)
        kinds = ["--fleet", str(folder / "fleet.toml")]
        self.run(["plan", costs, *kinds, *QUICK, "-o", str(folder / "placed.json")])
        shutil.copy(self.out / "costs.json", folder / "costs.json")
        files = (
            self.out / "manifest.json",
            self.out / "costs.json",
            self.mixed / "manifest.json",
            self.placed / "manifest.json",
            folder / "plan.json",
            folder / "mixed.json",
            folder / "placed.json",
            folder / "costs.json",
        )
        self.truth = {path: json.loads(path.read_text()) for path in files}
        self.found: Counter[str] = Counter()
        self.wrong: list[str] = []

    def commands(self, path: Path) -> list[list[str]]:
        """Return the commands that read a file."""
        out, plan = str(path.parent), str(self.folder / "plan.json")
        if path.parent != self.folder:
            run = ["run", out, "--inputs", str(self.folder / "x.npz")]
            bench = ["bench", out, "--rounds", "1", "--requests", "1", "--no-baselines"]
            model = str(self.model)
            return [["verify", out, "--model", model], ["verify", out], ["show", out], run, bench]
        if path.name in ("plan.json", "mixed.json", "placed.json"):
            return [["verify", str(path)], ["show", str(path)]]
        output = ["-o", str(self.folder / "other.json"), "--force"]
        return [["plan", str(path), "-k", "2", *QUICK, *output], ["verify", plan]]

    def forge(self) -> None:
        """Make one forgery and give it to every command."""
        path = self.rng.choice(list(self.truth))
        document = copy.deepcopy(self.truth[path])
        what = [mutate(document, self.rng) for _ in range(self.rng.choice((1, 1, 1, 2)))]
        path.write_text(json.dumps(document))
        label = f"{path.relative_to(self.folder)}: {'; '.join(what)}"
        for command in self.commands(path):
            begin = time.perf_counter()
            code, told = self.run(command)
            seconds = time.perf_counter() - begin
            verdict = "harmless" if code == 0 else "refused"
            if code not in (0, 2, 3, 4, 5) or "Traceback" in told or seconds > SECONDS:
                verdict = "wrong"
            elif code == 0 and "--model" in command and path.name == "manifest.json":
                changed = not same(meaning(document), meaning(self.truth[path]))
                verdict = "wrong" if changed else verdict
            elif code and len(told.strip().splitlines()) > 1 + told.count(": note: "):
                verdict = "wrong"
            self.found[verdict] += 1
            if verdict == "wrong":
                self.wrong.append(
                    f"{label}\n    {command[0]} -> {code} in {seconds:.1f} s: {told.strip()[-300:]}"
                )
        path.write_text(json.dumps(self.truth[path]))

    @staticmethod
    def run(command: list[str]) -> tuple[int, str]:
        """Run a command in this process; return its exit code and what it said on stderr."""
        told = io.StringIO()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
                return main([*command]), told.getvalue()
        except Overtime:
            return -1, "it does not end"
        except BaseException as error:  # whatever escapes a command is what is looked for
            return -1, f"Traceback: {type(error).__name__}: {error}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


QUICK = ("--time-limit", "0.05", "--threads", "1")


def campaign(count: int, seed: int) -> Campaign:
    """Make ``count`` forgeries, with this process's memory and every command's time limited."""

    def overtime(*_: object) -> None:
        raise Overtime

    before = signal.signal(signal.SIGALRM, overtime)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = Campaign(Path(folder), seed)
            resource.setrlimit(resource.RLIMIT_DATA, (used + BYTES, limits[1]))
            for _ in range(count):
                found.forge()
            return found
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        signal.signal(signal.SIGALRM, before)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    found = campaign(chosen.count, chosen.seed)
    print(*found.wrong, sep="\n")
    print(f"{chosen.count} forgeries, {sum(found.found.values())} commands: {dict(found.found)}")
    return bool(found.wrong)


if __name__ == "__main__":
    raise SystemExit(_main())
