"""The result of ``bench`` as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from onnx_pipeline.cli.terminal import make_console, print_lines, print_whole
from onnx_pipeline.cli.units import format_bytes, format_seconds

_CONTENDERS = {
    "one_thread": "unsplit, 1 thread",
    "all_threads": "unsplit, all cores",
    "replicas": "replicas",
}


def show_bench(document: Mapping[str, Any], stream: IO[str] | None = None) -> None:
    """Print predicted and measured times of the stages, and the comparison with the unsplit model."""
    from rich import box
    from rich.table import Table

    console = make_console(stream)
    console.print(
        f"{document['model']}: {len(document['stages'])} stages on {document['backend']}, "
        f"{document['cores']} cores, {document['rounds']} rounds of "
        f"{document['requests'] // document['rounds']} requests",
        style="bold",
        soft_wrap=True,
    )
    unicode = "utf" in console.encoding.lower()
    style = box.SIMPLE_HEAD if unicode else box.ASCII_DOUBLE_HEAD
    table = Table(box=style, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    labels = ("stage", "predicted", "measured", "error", "busy", "wait in", "wait out", "moved", "copying")
    for label in labels:
        table.add_column(label, justify="right", no_wrap=True)
    for stage in document["stages"]:
        table.add_row(
            str(stage["index"]),
            format_seconds(stage["predicted_seconds"]),
            format_seconds(stage["measured_seconds"]),
            _error(stage["predicted_seconds"], stage["measured_seconds"]),
            *(format_seconds(stage[f"{key}_seconds"]) for key in ("busy", "wait_input", "wait_output")),
            format_bytes(stage["transfer_bytes"]),
            format_seconds(stage["transfer_seconds"]),
        )
    print_whole(console, table)
    print_lines(console, _lines(document))


def _lines(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    latency, bottleneck = document["latency_seconds"], document["bottleneck"]
    model = document["simulated"]
    lines = [
        (
            "pipeline",
            f"{document['throughput_per_second']:,.1f} requests/s, one every "
            f"{format_seconds(document['period_seconds'])}",
        ),
        (
            "latency",
            ", ".join(f"{name} {format_seconds(value)}" for name, value in latency.items())
            + f" when full, {format_seconds(document['unloaded_latency_seconds'])} alone",
        ),
        (
            "bottleneck",
            f"{format_seconds(bottleneck['measured_seconds'])} alone, predicted "
            f"{format_seconds(bottleneck['predicted_seconds'])} "
            f"({_error(bottleneck['predicted_seconds'], bottleneck['measured_seconds'])})",
        ),
        ("efficiency", f"{document['efficiency']:.3f} (bottleneck stage alone / period)"),
        (
            "simulated",
            f"one every {format_seconds(model['period_seconds'])}, "
            f"latency p50 {format_seconds(model['latency_seconds']['p50'])}",
        ),
    ]
    for key, speedup in document["speedup"].items():
        label = _CONTENDERS[key] + (f" ({document['baselines']['replicas']})" if key == "replicas" else "")
        seconds = document["baselines"][f"{key}_seconds"]
        lines.append((label, f"one every {format_seconds(seconds)}; the pipeline is {speedup:.2f} x as fast"))
    return lines


def _error(predicted: float, measured: float) -> str:
    return f"{100 * (predicted / measured - 1):+.0f} %"
