"""Objects in a line, as prompts and debuggers show them: the figures that matter, no arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from onnx_pipeline.errors import printable
from onnx_pipeline.figures import (
    format_bandwidth,
    format_bytes,
    format_count,
    format_percent,
    format_rate,
    format_seconds,
)

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.devices import Device
    from onnx_pipeline.exploration import Exploration
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.objective import StageCost
    from onnx_pipeline.graph.target import Target
    from onnx_pipeline.manifest import Manifest
    from onnx_pipeline.partition.result import Partition, PartitionResult
    from onnx_pipeline.placing import Placement
    from onnx_pipeline.replica_plan import ReplicaPlan, ReplicaTable
    from onnx_pipeline.verification.checks import VerifyReport


def _line(thing: object, name: str, figures: Iterable[str]) -> str:
    return f"<{type(thing).__name__} {printable(name)}: {', '.join(filter(None, figures))}>"


def of_graph(graph: CostGraph) -> str:
    """``<CostGraph 'bert': 122 nodes, 141 tensors, 7.90 ms of work, 20.9 MiB of parameters>``."""
    figures = [
        format_count(graph.num_nodes, "node"),
        format_count(graph.num_nets, "tensor"),
        f"{format_seconds(graph.seconds(int(graph.work.sum())))} of work",
        f"{format_bytes(int(graph.group_bytes.sum()))} of parameters",
    ]
    demands = ((graph.pinned >= 0).sum(), "pin"), (len(set(graph.colocation.tolist()) - {-1}), "group")
    figures += [format_count(int(number), noun) for number, noun in demands if number]
    kind = graph.meta.get("cost_model")
    figures[-1] += f" (costs: {printable(str(kind))})" if kind else ""
    return _line(graph, repr(graph.name), figures)


def of_devices(thing: Target | Device, more: Iterable[str] = ()) -> str:
    """``<Target cpu: 10 GB/s between devices, 8.00 GiB of memory, 35.0 us per stage>``."""
    free, endless = math.isinf(thing.bandwidth), math.isinf(thing.memory)
    figures = [
        "free transfers" if free else f"{format_bandwidth(thing.bandwidth)} between devices",
        "unlimited memory" if endless else f"{format_bytes(thing.memory)} of memory",
        f"{format_seconds(thing.transfer_latency)} per tensor" if thing.transfer_latency else "",
        f"{format_seconds(thing.stage_overhead)} per stage" if thing.stage_overhead else "",
    ]
    return _line(thing, thing.name, [*figures, *more])


def of_target(target: Target) -> str:
    """Like a device, with what the objective counts otherwise than by default."""
    finite = math.isfinite(target.memory)
    return of_devices(
        target,
        [
            "a hard limit" if finite and target.memory_mode == "hard" else "",
            "parameters only" if finite and not target.activations else "",
            "" if target.host_io else "model inputs and outputs free",
        ],
    )


def of_device(device: Device) -> str:
    """With operations per second by element type."""
    rates = ", ".join(f"{dtype} {rate:.3g}" for dtype, rate in device.peak_flops.items())
    return of_devices(device, [f"operations/s: {rates}"])


def of_stage(cost: StageCost) -> str:
    """The total in ticks, whose length only the graph knows, and what it is made of."""
    parts = ((name, getattr(cost, name)) for name in ("work", "input", "output", "overflow", "overhead"))
    paid = ", ".join(f"{name} {format_percent(ticks / cost.total)}" for name, ticks in parts if ticks)
    figures = [
        format_count(cost.nodes, "node"),
        f"{cost.total} ticks" + (f" ({paid})" if paid else ""),
        f"{format_bytes(cost.parameter_bytes)} of parameters",
        f"{format_bytes(cost.activation_bytes)} of activations" if cost.activation_bytes else "",
    ]
    return f"<StageCost: {', '.join(filter(None, figures))}>"


def of_partition(partition: Partition) -> str:
    """``<Partition 'bert': 122 nodes in 3 of 4 stages on cpu>``; cheap, whether or not it is valid."""
    nodes = format_count(partition.graph.num_nodes, "node")
    where = _stages(partition.used, partition.stages)
    return _line(partition, repr(partition.graph.name), [f"{nodes} in {where} on {partition.target.name}"])


def of_result(result: PartitionResult) -> str:
    """Partition and verdict."""
    certificate = {
        "bottleneck_seconds": result.bottleneck,
        "lower_bound_seconds": result.lower_bound,
        "gap": result.gap,
        "costs": result.graph.meta.get("cost_model"),
    }
    stages = _stages(result.used, result.stages)
    return _line(result, repr(result.graph.name), _verdict(stages, result.target.name, certificate))


def of_manifest(manifest: Manifest) -> str:
    """The file that was split, and the verdict."""
    stages = _stages(len(manifest.stages), manifest.target.get("stages", 0))
    return _line(
        manifest, manifest.model.file, _verdict(stages, manifest.target["device"], manifest.certificate)
    )


def of_exploration(found: Exploration) -> str:
    """How many plans, for which numbers of stages, and what the best of them reaches."""
    counts = [row.stages for row in found]
    times = [row.bottleneck_seconds for row in found if row.bottleneck_seconds is not None]
    figures = [
        format_count(len(counts), "plan"),
        f"{min(counts)} to {format_count(max(counts), 'stage')}" if counts else "",
        f"bottleneck {format_seconds(max(times))} to {format_seconds(min(times))}" if times else "",
        f"{len(counts) - len(times)} without any partition" if len(times) < len(counts) else "",
    ]
    return _line(found, repr(found.graph.name), figures)


def of_replica_plan(plan: ReplicaPlan) -> str:
    """``<ReplicaPlan 'bert': 3 stages on 2 + 5 + 1 devices, period 0.9 ms, ..., gap 0 %>``."""
    counts = " + ".join(map(str, plan.replicas))
    noun = format_count(plan.used, "device").split(" ", 1)[1]
    figures = [
        f"{format_count(plan.stages, 'stage')} on {counts} {noun}"
        + (f" of {plan.devices}" if plan.used < plan.devices else ""),
        f"period {format_seconds(plan.period)}" + (f" ({format_rate(plan.period)})" if plan.period else ""),
        f"latency {format_seconds(plan.latency)}",
        f"lower bound {format_seconds(plan.lower_bound)}",
        f"gap {format_percent(plan.gap)}",
    ]
    return _line(plan, repr(plan.graph.name), figures)


def of_placement(placement: Placement) -> str:
    """``<Placement 'bert': 3 stages on npu, npu, cpu, bottleneck 0.9 ms, lower bound 0.9 ms, gap 0 %>``."""
    kinds = ", ".join(placement.fleet.kind_of(device).name for device in placement.device_of)
    figures = [
        f"{format_count(placement.stages, 'stage')} on {kinds}",
        f"bottleneck {format_seconds(placement.bottleneck)}",
        f"lower bound {format_seconds(placement.lower_bound)}",
        f"gap {format_percent(placement.gap)}",
    ]
    return _line(placement, repr(placement.graph.name), figures)


def of_replica_table(table: ReplicaTable) -> str:
    """How many plans, for which numbers of devices, and what they reach."""
    periods = [plan.period for plan in table]
    proved = sum(plan.status == "optimal" for plan in table)
    figures = [
        f"{min(table.plans)} to {format_count(max(table.plans), 'device')}",
        f"period {format_seconds(max(periods))} to {format_seconds(min(periods))}" if periods else "",
        f"{proved} proved optimal",
        f"{len(table.infeasible)} proved impossible" if table.infeasible else "",
    ]
    return _line(table, repr(table.graph.name), figures)


def _stages(used: int, wanted: int) -> str:
    return format_count(used, "stage") if used >= wanted else f"{used} of {format_count(wanted, 'stage')}"


def _verdict(stages: str, device: str, certificate: Mapping[str, Any]) -> list[str]:
    """``3 stages on cpu``, ``bottleneck 2.74 ms (365 inferences/s)``, lower bound and gap."""
    bottleneck, kind = certificate["bottleneck_seconds"], certificate.get("costs")
    return [
        f"{stages} on {printable(device)}",
        f"bottleneck {format_seconds(bottleneck)}" + (f" ({format_rate(bottleneck)})" if bottleneck else ""),
        f"lower bound {format_seconds(certificate['lower_bound_seconds'])}",
        f"gap {format_percent(certificate['gap'])}" + (f" (costs: {printable(str(kind))})" if kind else ""),
    ]


def of_report(report: VerifyReport) -> str:
    """``<VerifyReport out: sound, 3 stages, 6 checks>``, or the first problem."""
    sound = "sound" if report.ok else f"{format_count(len(report.problems), 'problem')}: {report.problems[0]}"
    equal = sum(output.equal for output in report.outputs)
    figures = [
        printable(sound),
        format_count(report.stages, "stage"),
        format_count(len(report.checks), "check"),
        f"{equal} of {format_count(len(report.outputs), 'output')} bitwise equal" if report.outputs else "",
        f"the {report.not_rechecked} bound not proved again" if report.not_rechecked else "",
    ]
    return _line(report, report.directory, figures)
