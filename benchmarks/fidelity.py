"""Predicted stages against measured ones: ``python -m benchmarks.fidelity``.

Protocol: every model is profiled once as ``onnx-pipeline split`` does it and partitioned for k = 2, 4, 8. The
closed loop runs on top. Then everything that is compared, our two partitions and those of
the baselines, is emitted and measured in the same rounds with fresh sessions: each round runs the whole model
and every stage of every partition in a chain, one intra-op thread each. No prediction is scored by the
measurement that it was made from. Results are appended to a CSV file per model and k, so that a campaign can
be interrupted and resumed; ``--report`` turns the file into tables.

Bottlenecks are execution times on this host, the slowest stage; where transfers are said to be included, what
the device charges for them is added to the measured execution. The analytic model runs on rates that
``calibrate`` finds on this host at the start.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import numpy as np
import onnx

from models.real import REAL
from onnx_pipeline.costmodel import Device, load_device
from onnx_pipeline.costmodel.calibrate import calibrate
from onnx_pipeline.costmodel.computed.analytic import analytic
from onnx_pipeline.costmodel.computed.flops import operations
from onnx_pipeline.costmodel.profiling.mapping import attribute, original_nodes
from onnx_pipeline.costmodel.profiling.sessions import Runner
from onnx_pipeline.costmodel.request import CostRequest
from onnx_pipeline.emission.emit import emit
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import stage_costs
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.measurement import chain
from onnx_pipeline.measurement.closed_loop import ClosedLoop
from onnx_pipeline.measurement.conditioning import execution_ticks
from onnx_pipeline.measurement.improve import operator_kinds
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.parameters import ProfileParams
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.result import Certificate, Partition, PartitionResult, SearchRecord
from onnx_pipeline.price import Priced, price
from onnx_pipeline.progress import Phases, silent
from onnx_pipeline.solution import Solution
from onnx_pipeline.stop import Deadline

FIELDS = ["model", "k", "variant", "stage", "predicted", "measured", "spread", "transfer", "analytic"]
MODEL_FIELDS = [
    "model",
    "nodes",
    "whole",
    "profile_seconds",
    "cached_seconds",
    "mapped",
    "sum_error",
    "analytic",
]
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
OURS = ("open loop", "closed loop")
Search = Callable[[CostGraph], PartitionResult]
Errors = dict[tuple[str, int], list[float]]
Row = dict[str, object]
Bottlenecks = dict[tuple[str, int, str], float]
RESULTS = Path("docs") / "fidelity.csv"


@dataclass
class Case:
    """One model with everything that is computed once."""

    name: str
    priced: Priced
    runner: Runner
    request: CostRequest
    target: Target

    @property
    def graph(self) -> CostGraph:
        return self.priced.graph

    @property
    def whole(self) -> float:
        return self.graph.seconds(int(self.graph.work.sum()))


def prepare(name: str, folder: Path) -> tuple[Case, dict[str, object]]:
    """Build, profile twice (the second time from the cache) and describe a model."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(REAL[name](), path)

    def priced_once(cache: bool) -> tuple[Priced, float]:
        phases = Phases()
        priced = price(path, ProfileParams(cache=cache), silent, phases)
        return priced, phases["profile"]

    priced, seconds = priced_once(True)
    priced, cached = priced_once(True)
    seconds = float(priced.costs.meta["profile_seconds"])
    feeds = make_feeds(priced.source, priced.dims, 0)
    request = CostRequest(
        priced.source,
        priced.infos,
        executable_nodes(priced.source),
        priced.dims,
        feeds,
        this_host(),
    )
    runner = Runner(priced.source, feeds, priced.dims)
    case = Case(name, priced, runner, request, load_device("cpu").target())
    wall = float(priced.costs.meta["wall_seconds_per_inference"])
    return case, {
        "model": name,
        "nodes": priced.graph.num_nodes,
        "whole": case.whole,
        "profile_seconds": seconds,
        "cached_seconds": cached,
        "mapped": priced.costs.meta["mapped_share"],
        "sum_error": abs(case.whole / wall - 1),
        "analytic": sum(analytic(request).work_ns.values()) / NS,
    }


@cache
def this_host() -> Device:
    """Return the rates of this host."""
    return calibrate().device("this host")


def contiguous(graph: CostGraph, weights: Sequence[float] | np.ndarray, stages: int) -> np.ndarray:
    """Cut one topological order so that the largest sum of weights is smallest."""
    order = list(graph.order)
    values = [float(weights[v]) for v in order]

    def cuts(limit: float) -> list[int] | None:
        stage, load, out = 0, 0.0, []
        for value in values:
            if load + value > limit and load > 0:
                stage, load = stage + 1, 0.0
            load += value
            out.append(stage)
        return out if stage < stages and max(values) <= limit else None

    low, high = max(values), sum(values)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if cuts(middle) else (middle, high)
    assigned = cuts(high * (1 + 1e-9)) or [0] * len(order)
    stage_of = np.zeros(graph.num_nodes, dtype=np.int64)
    stage_of[order] = assigned
    return stage_of


def parameter_weights(graph: CostGraph) -> np.ndarray:
    """Bytes of every parameter group, at the first node that reads it."""
    weights = np.full(graph.num_nodes, 1e-6)
    for group, size in enumerate(graph.group_bytes):
        members = graph.group_members(group)
        if len(members):
            weights[members[0]] += size
    return weights


def unfused(case: Case) -> CostGraph:
    """Return the graph with the kernel times of a session without optimisations."""
    with TemporaryDirectory() as folder:
        traced = case.runner.traced(Path(folder) / "unfused", optimise=False)
        assert traced is not None
        for _ in range(8):
            case.runner.run(traced.session)
        kernels, _ = traced.saved()
        times = traced.finish(kernels, 2)
    nodes = original_nodes(case.request.nodes)
    best = attribute(kernels, nodes, np.ones(len(nodes))).apply(times).min(axis=0)
    return replace(
        case.graph, work=np.rint(best * 1e-6 * case.graph.ticks_per_second).astype(np.int64), net_extra=None
    )


def as_result(case: Case, stage_of: np.ndarray, stages: int) -> PartitionResult:
    return PartitionResult(
        Partition(case.graph, case.target, stages, stage_of), Certificate(), SearchRecord()
    )


def baselines(
    case: Case, stages: int, search: Callable[[CostGraph], PartitionResult]
) -> dict[str, np.ndarray]:
    graph = case.graph
    flops = [operations(node, case.priced.infos) + 1e-3 for node in case.request.nodes]
    return {
        "equal nodes": contiguous(graph, np.ones(graph.num_nodes), stages),
        "equal parameters": contiguous(graph, parameter_weights(graph), stages),
        "equal FLOPs": contiguous(graph, flops, stages),
        "equal profiled time, one order": contiguous(graph, graph.work + 1e-3, stages),
        "DISABLE_ALL profile": search(unfused(case)).stage_of,
    }


def run_case(case: Case, stages: int, folder: Path, time_limit: float, budget: float) -> list[Row]:
    """Measure one model and k; return the rows of the CSV file."""

    def search(graph: CostGraph) -> PartitionResult:
        return partition(graph, stages, case.target, time_limit=time_limit, seed=0)

    def emit_to(result: Solution, place: Path) -> None:
        emit(case.priced.source, case.priced.infos, result, {}, place)

    with TemporaryDirectory(dir=folder) as scratch:
        loop = Path(scratch) / "loop"
        loop.mkdir()
        opened = search(case.graph)
        deadline = Deadline(budget)
        closed = ClosedLoop(
            emit_to,
            search,
            partial(chain.take, case.runner, deadline=deadline, effort=chain.Effort()),
            loop,
            operator_kinds(case.priced.source, case.graph),
            reference_seconds=case.whole,
            stop=deadline,
        ).run(opened)
        assert closed is not None
        shutil.rmtree(loop)
        candidates = {"open loop": opened.stage_of, "closed loop": closed.result.stage_of}
        candidates |= baselines(case, stages, search)
        places: dict[bytes, Path] = {}
        for index, stage_of in enumerate(candidates.values()):
            key = stage_of.tobytes()
            if key not in places:
                places[key] = Path(scratch) / f"candidate{index}"
                emit_to(as_result(case, stage_of, stages), places[key])
        found = chain.measure(case.runner, list(places.values()), case.whole, seconds=budget)
    by_key = dict(zip(places, found, strict=True))
    estimate = analytic(case.request).work_ns
    roofline = np.array([estimate[name] for name in case.graph.node_names], dtype=np.float64)
    roofline *= case.whole / roofline.sum()
    rows: list[Row] = []
    for variant, stage_of in candidates.items():
        corrected = closed.corrected if variant == "closed loop" else None
        graph = case.graph if corrected is None else corrected.graph
        predicted = execution_ticks(graph, stage_of, stages)
        times = by_key[stage_of.tobytes()]
        totals = [cost.total for cost in stage_costs(graph, case.target, stage_of, stages)]
        for stage, seconds in enumerate(times.stage_seconds):
            rows.append(
                {
                    "model": case.name,
                    "k": stages,
                    "variant": variant,
                    "stage": stage,
                    "predicted": case.graph.seconds(predicted[stage]),
                    "measured": seconds,
                    "spread": times.spread[stage],
                    "transfer": case.graph.seconds(totals[stage] - predicted[stage]),
                    "analytic": float(roofline[stage_of == stage].sum()),
                }
            )
    return rows


def append(path: Path, fields: Sequence[str], rows: Iterable[dict[str, object]]) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        if new:
            writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()})


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def models_file(results: Path) -> Path:
    return results.with_name(f"{results.stem}-models.csv")


# ------------------------------------------------------------------------------------------- tables


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def percent(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{100 * np.median(values):.1f} / {100 * np.quantile(values, 0.9):.1f} %"


def errors(rows: list[dict[str, str]], variant: str, column: str = "predicted") -> Errors:
    out: Errors = defaultdict(list)
    for row in rows:
        if row["variant"] == variant:
            error = abs(float(row[column]) / float(row["measured"]) - 1)
            out[row["model"], int(row["k"])].append(error)
    return out


def bottlenecks(rows: list[dict[str, str]], *columns: str) -> Bottlenecks:
    """Largest sum of the columns over the stages of each model, k and variant."""
    out: Bottlenecks = defaultdict(float)
    for row in rows:
        key = row["model"], int(row["k"]), row["variant"]
        out[key] = max(out[key], sum(float(row[column]) for column in columns))
    return out


def versus(measured: Bottlenecks, names: list[str], stages: list[int]) -> str:
    """Bottlenecks of all variants over those of the closed loop, as a table."""
    lines = []
    for variant in dict.fromkeys(variant for _, _, variant in measured):
        if variant == OURS[1]:
            continue
        cells = []
        for s in stages:
            ratios = [
                measured[m, s, variant] / measured[m, s, OURS[1]]
                for m in names
                if (m, s, variant) in measured
            ]
            cells.append(f"{np.exp(np.mean(np.log(ratios))):.3f} ({min(ratios):.2f}-{max(ratios):.2f})")
        lines.append([variant, *cells])
    return table(["partition", *(f"k = {s}" for s in stages)], lines)


def report(results: Path) -> str:
    """Return the tables as Markdown."""
    rows = read(results)
    stages = sorted({int(row["k"]) for row in rows})
    names = list(dict.fromkeys(row["model"] for row in rows))
    measured, predicted = bottlenecks(rows, "measured"), bottlenecks(rows, "predicted")
    parts = ["### Stage error, |predicted - measured| / measured: median / p90\n"]
    lines = []
    for variant, column in ((OURS[0], "predicted"), (OURS[1], "predicted"), (OURS[0], "analytic")):
        found = errors(rows, variant, column)
        label = variant if column == "predicted" else "analytic, scaled"
        lines.append(
            [label, *(percent([e for (_, k), each in found.items() if k == s for e in each]) for s in stages)]
        )
    parts.append(table(["prediction", *(f"k = {s}" for s in stages)], lines))
    parts.append("### Bottleneck error: median / p90 (largest)\n")
    lines = []
    for variant in OURS:
        cells = []
        for s in stages:
            found_errors = [
                abs(predicted[m, s, variant] / measured[m, s, variant] - 1)
                for m in names
                if (m, s, variant) in measured
            ]
            cells.append(f"{percent(found_errors)} ({100 * max(found_errors, default=0):.1f} %)")
        lines.append([variant, *cells])
    parts.append(table(["prediction", *(f"k = {s}" for s in stages)], lines))
    parts.append("### Real bottleneck of others over ours (closed loop), geometric mean over the models\n")
    parts.append(versus(measured, names, stages))
    parts.append("### The same, transfers included, which is what the partition minimises\n")
    parts.append(versus(bottlenecks(rows, "measured", "transfer"), names, stages))
    parts.append("### Per model: bottleneck error open -> closed loop, real speed-up over one stage\n")
    whole = {row["model"]: float(row["whole"]) for row in read(models_file(results))}
    lines = []
    for m in names:
        cells = []
        for s in stages:
            if (m, s, OURS[0]) not in measured:
                cells.append("-")
                continue
            signed = [100 * (predicted[m, s, v] / measured[m, s, v] - 1) for v in OURS]
            speed = whole[m] / measured[m, s, OURS[1]]
            cells.append(f"{signed[0]:+.1f} -> {signed[1]:+.1f} %, {speed:.2f} x")
        lines.append([m, *cells])
    parts.append(table(["model", *(f"k = {s}" for s in stages)], lines))
    parts.append("### Profiles\n")
    lines = [
        [
            row["model"],
            row["nodes"],
            f"{1e3 * float(row['whole']):.1f} ms",
            f"{float(row['profile_seconds']):.1f} s",
            f"{1e3 * float(row['cached_seconds']):.0f} ms",
            f"{100 * float(row['mapped']):.2f} %",
            f"{100 * float(row['sum_error']):.4f} %",
            f"{float(row['analytic']) / float(row['whole']):.2f}",
        ]
        for row in read(models_file(results))
    ]
    header = ["model", "nodes", "W", "profile", "cached", "mapped", "sum - W", "analytic / W"]
    parts.append(table(header, lines))
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(REAL), help="names; all by default")
    parser.add_argument("-k", type=int, nargs="*", default=[2, 4, 8])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path(gettempdir()) / "onnx-pipeline-fidelity")
    parser.add_argument("--time-limit", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=30.0, help="of rounds per model and k")
    parser.add_argument("--report", action="store_true", help="only print the tables of the results")
    parser.add_argument("--write", type=Path, help="page that gets the tables, such as docs/fidelity.md")
    options = parser.parse_args(arguments)
    if not options.report:
        for name in options.models:
            done = {(row["model"], int(row["k"])) for row in read(options.results)}
            left = [k for k in options.k if (name, k) not in done]
            if not left:
                continue
            case, facts = prepare(name, options.work)
            if name not in {row["model"] for row in read(models_file(options.results))}:
                append(models_file(options.results), MODEL_FIELDS, [facts])
            for k in left:
                begin = time.perf_counter()
                append(
                    options.results,
                    FIELDS,
                    run_case(case, k, options.work, options.time_limit, options.seconds),
                )
                print(f"{name} k={k}: {time.perf_counter() - begin:.0f} s", flush=True)
    text = report(options.results)
    print(text)
    if options.write is not None:
        page = options.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
