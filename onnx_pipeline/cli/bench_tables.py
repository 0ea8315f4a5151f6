"""The result of ``bench`` as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

from onnx_pipeline.cli.terminal import make_console, print_lines, print_title, print_whole
from onnx_pipeline.figures import format_bytes, format_count, format_percent, format_rate, format_seconds

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
    print_title(console, _headline(document))
    unicode = "utf" in console.encoding.lower()
    style = box.SIMPLE_HEAD if unicode else box.ASCII_DOUBLE_HEAD
    table = Table(box=style, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    labels = ("stage", "predicted", "measured", "error", "busy", "wait in", "wait out", "moved", "copying")
    for label in labels:
        table.add_column(label, justify="right", no_wrap=True)
    for stage in document["stages"]:
        table.add_row(
            str(stage["index"]) + (f" x {stage['replicas']}" if stage.get("replicas", 1) > 1 else ""),
            format_seconds(stage["predicted_seconds"]),
            format_seconds(stage["measured_seconds"]),
            _error(stage["predicted_seconds"], stage["measured_seconds"]),
            *(format_seconds(stage[f"{key}_seconds"]) for key in ("busy", "wait_input", "wait_output")),
            format_bytes(stage["transfer_bytes"]),
            format_seconds(stage["transfer_seconds"]),
        )
    print_whole(console, table)
    print_lines(console, _lines(document))


def _headline(document: Mapping[str, Any]) -> str:
    stages = format_count(len(document["stages"]), "stage")
    if _mixed(document):
        stages += f", {format_count(len(document['devices']), 'device')}"
    requests = format_count(document["requests"] // document["rounds"], "request")
    return (
        f"{document['model']}: {stages} on {document['backend']}, {format_count(document['cores'], 'core')}, "
        f"{format_count(document['rounds'], 'round')} of {requests}"
    )


def _lines(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    latency, bottleneck = document["latency_seconds"], document["bottleneck"]
    model = document["simulated"]
    error = _error(bottleneck["predicted_seconds"], bottleneck["measured_seconds"])
    devices = format_count(len(document.get("devices", document["stages"])), "device")
    lines = [
        *_devices(document),
        (
            "pipeline",
            f"{format_rate(document['period_seconds'], 'request')}, one every "
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
            f"{format_seconds(bottleneck['predicted_seconds'])}" + (f" ({error})" if error else ""),
        ),
        ("efficiency", _efficiency(document)),
        (
            "simulated",
            f"on {devices}: one every {format_seconds(model['period_seconds'])}, "
            f"latency p50 {format_seconds(model['latency_seconds']['p50'])}",
        ),
    ]
    for key, speedup in document["speedup"].items():
        label = _CONTENDERS[key] + (f" ({document['baselines']['replicas']})" if key == "replicas" else "")
        seconds = document["baselines"][f"{key}_seconds"]
        lines.append((label, f"one every {format_seconds(seconds)}; the pipeline is {speedup:.2f} x as fast"))
    return lines


def _efficiency(document: Mapping[str, Any]) -> str:
    """Say what share of its best rate the pipeline reaches, and what limits it on few cores."""
    count, cores = len(document.get("devices", document["stages"])), document["cores"]
    what, slowest = ("device", "busiest device") if _mixed(document) else ("stage", "slowest stage")
    text = f"{format_percent(document['efficiency'])} ({slowest} alone / period)"
    if count <= cores:
        return text
    share = f"{format_count(count, what)} share {format_count(cores, 'core')}"
    return f"{text}: {share}; simulate {format_count(count, 'device')} with `onnx_pipeline.simulate`"


def _mixed(document: Mapping[str, Any]) -> bool:
    """Whether it is not one stage per device."""
    return len(document.get("devices", document["stages"])) != len(document["stages"]) or any(
        len(device["stages"]) > 1 for device in document.get("devices", ())
    )


def _devices(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say how often each stage with replicas finishes a request, and what stages of one device add up to."""
    for stage in document["stages"] if _mixed(document) else ():
        if stage["replicas"] > 1:
            times = _against(stage["measured_period_seconds"], stage["predicted_period_seconds"])
            yield f"stage {stage['index']}", f"on {stage['replicas']} devices: one every {times}"
    for device in document.get("devices", ()):
        if len(device["stages"]) > 1:
            name = f"device {device['device']}" + (f" ({device['kind']})" if device["kind"] else "")
            stages = ", ".join(map(str, device["stages"]))
            yield (
                name,
                f"{_against(device['measured_seconds'], device['predicted_seconds'])}: stages {stages}",
            )


def _against(measured: float, predicted: float) -> str:
    error = _error(predicted, measured)
    text = f"{format_seconds(measured)}, predicted {format_seconds(predicted)}"
    return text + (f" ({error})" if error else "")


def _error(predicted: float, measured: float) -> str:
    return f"{100 * (predicted / measured - 1):+.0f} %" if measured else ""
