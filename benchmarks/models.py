"""`split` and `verify --model` on every light model of the onnx package and every model of the zoo.

    python -m benchmarks.models [--k 2 4 8] [--time-limit 5] [--output results.csv] [NAME ...]

Runs the real command line in processes of its own and prints one row per run: bottleneck, bound, gap, verdict
of the verification and seconds per phase. The stages are not measured (--measure 0): the closed loop keeps
the partition that measures best, which need not be the one that is optimal in the corrected costs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ZOO = Path(os.environ.get("ONNX_PIPELINE_DATA", ROOT.parent / "shared" / "data")) / "zoo"
#: Dimensions that must agree (data/README.md); everything else runs at the default.
DIMS = {"llama_small_past_dyn": {"s10": 1, "s86": 1, "s21": 1, "s16": 16, "s12": 17}}
COLUMNS = ("model", "k", "used", "bottleneck_ms", "bound_ms", "gap_percent", "status", "verify", "difference")
PHASES = ("load", "shapes", "profile", "lower", "partition", "emit", "verify")


def models() -> dict[str, Path]:
    import onnx

    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    found = {path.stem: path for path in sorted(light.glob("light_*.onnx"))}
    found |= {path.stem: path for path in sorted(ZOO.glob("*.onnx"))}
    return found


def command(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "onnx_pipeline", *arguments, "--json", "-q"], capture_output=True, text=True
    )
    if done.returncode not in (0, 5):
        raise SystemExit(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.returncode, json.loads(done.stdout)


def row(name: str, path: Path, k: int, time_limit: float) -> dict[str, object]:
    dims = [x for item in DIMS.get(name, {}).items() for x in ("--dim", "=".join(map(str, item)))]
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out")
        _, manifest = command(
            "split",
            str(path),
            "-k",
            str(k),
            "-o",
            out,
            "--time-limit",
            str(time_limit),
            "--measure",
            "0",
            *dims,
        )
        code, report = command("verify", out, "--model", str(path), *dims)
    certificate, phases = manifest["certificate"], manifest.get("phases", {})
    return {
        "model": name,
        "k": k,
        "used": len(manifest["stages"]),
        "bottleneck_ms": round(certificate["bottleneck_seconds"] * 1e3, 3),
        "bound_ms": round(certificate["lower_bound_seconds"] * 1e3, 3),
        "gap_percent": round(100 * certificate["gap"], 2),
        "status": certificate["status"],
        "verify": "ok" if code == 0 else "FAILED",
        "difference": max((out["max_rel"] for out in report["outputs"]), default=0.0),
        **{phase: round(float(phases.get(phase, 0)), 2) for phase in PHASES if phase in phases},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--k", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--time-limit", type=float, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for name, path in models().items():
        if options.names and name not in options.names:
            continue
        for k in options.k:
            rows.append(row(name, path, k, options.time_limit))
            print("| " + " | ".join(str(rows[-1].get(column)) for column in COLUMNS) + " |", flush=True)
            if options.output:
                with options.output.open("w", newline="") as file:
                    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                    writer.writeheader()
                    writer.writerows(rows)


if __name__ == "__main__":
    main()
