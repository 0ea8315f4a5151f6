"""Split an ONNX model into k pipeline stages with a certified bottleneck.

Everything here is imported on first use: ``import onnx_pipeline`` loads neither onnx nor numpy.

Examples
--------
>>> import onnx_pipeline as op
>>> op.split("model.onnx", stages=8, output="out")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_pipeline.borders.crossings import Crossing as Crossing
    from onnx_pipeline.borders.crossings import cuts as cuts
    from onnx_pipeline.costmodel.devices import Device as Device
    from onnx_pipeline.costmodel.devices import load_device as load_device
    from onnx_pipeline.costmodel.fleets import DeviceKind as DeviceKind
    from onnx_pipeline.costmodel.fleets import Fleet as Fleet
    from onnx_pipeline.costmodel.fleets import load_fleet as load_fleet
    from onnx_pipeline.costmodel.request import CostModel as CostModel
    from onnx_pipeline.costmodel.request import CostRequest as CostRequest
    from onnx_pipeline.costmodel.request import NodeCosts as NodeCosts
    from onnx_pipeline.emitting import emit as emit
    from onnx_pipeline.errors import InfeasibleError as InfeasibleError
    from onnx_pipeline.errors import InputError as InputError
    from onnx_pipeline.errors import PipelineError as PipelineError
    from onnx_pipeline.errors import StageError as StageError
    from onnx_pipeline.errors import UsageError as UsageError
    from onnx_pipeline.errors import VerificationError as VerificationError
    from onnx_pipeline.evaluation import evaluate as evaluate
    from onnx_pipeline.exploration import Exploration as Exploration
    from onnx_pipeline.exploration import explore as explore
    from onnx_pipeline.graph.builder import GraphBuilder as GraphBuilder
    from onnx_pipeline.graph.constraints import Demands as Demands
    from onnx_pipeline.graph.costgraph import CostGraph as CostGraph
    from onnx_pipeline.graph.costs_json import read_graph as read_graph
    from onnx_pipeline.graph.costs_json import write_graph as write_graph
    from onnx_pipeline.graph.objective import StageCost as StageCost
    from onnx_pipeline.graph.objective import stage_costs as stage_costs
    from onnx_pipeline.graph.target import Target as Target
    from onnx_pipeline.manifest import Manifest as Manifest
    from onnx_pipeline.measurement.bench import bench as bench
    from onnx_pipeline.measurement.simulation import Simulation as Simulation
    from onnx_pipeline.measurement.simulation import simulate as simulate
    from onnx_pipeline.parameters import MeasureParams as MeasureParams
    from onnx_pipeline.parameters import OutputParams as OutputParams
    from onnx_pipeline.parameters import ProfileParams as ProfileParams
    from onnx_pipeline.parameters import SearchParams as SearchParams
    from onnx_pipeline.parameters import TargetParams as TargetParams
    from onnx_pipeline.partition.placed import FleetResult as FleetResult
    from onnx_pipeline.partition.portfolio import partition as partition
    from onnx_pipeline.partition.result import Bound as Bound
    from onnx_pipeline.partition.result import PartitionResult as PartitionResult
    from onnx_pipeline.pipeline import plan as plan
    from onnx_pipeline.pipeline import profile as profile
    from onnx_pipeline.pipeline import split as split
    from onnx_pipeline.placing import Placement as Placement
    from onnx_pipeline.placing import place as place
    from onnx_pipeline.planned import read_plan as read_plan
    from onnx_pipeline.replica_plan import ReplicaPlan as ReplicaPlan
    from onnx_pipeline.replica_plan import ReplicaTable as ReplicaTable
    from onnx_pipeline.replication import replicate as replicate
    from onnx_pipeline.reporting.build import report as report
    from onnx_pipeline.runtime import PipelineSession as PipelineSession
    from onnx_pipeline.slices.auto import SlicePlan as SlicePlan
    from onnx_pipeline.slices.models import plan_slices as plan_slices
    from onnx_pipeline.slices.models import slice_model as slice_model
    from onnx_pipeline.verification.checks import VerifyReport as VerifyReport
    from onnx_pipeline.verification.checks import verify as verify

    __version__: str

_HOME = {
    "Bound": "partition.result",
    "CostGraph": "graph",
    "CostModel": "costmodel",
    "CostRequest": "costmodel",
    "Crossing": "borders.crossings",
    "Demands": "graph.constraints",
    "Device": "costmodel.devices",
    "DeviceKind": "costmodel.fleets",
    "Exploration": "exploration",
    "Fleet": "costmodel.fleets",
    "FleetResult": "partition.placed",
    "GraphBuilder": "graph.builder",
    "InfeasibleError": "errors",
    "InputError": "errors",
    "Manifest": "manifest",
    "MeasureParams": "parameters",
    "NodeCosts": "costmodel",
    "OutputParams": "parameters",
    "PartitionResult": "partition.result",
    "PipelineError": "errors",
    "PipelineSession": "runtime",
    "Placement": "placing",
    "ProfileParams": "parameters",
    "ReplicaPlan": "replica_plan",
    "ReplicaTable": "replica_plan",
    "SearchParams": "parameters",
    "SlicePlan": "slices.auto",
    "Simulation": "measurement.simulation",
    "StageCost": "graph",
    "StageError": "errors",
    "Target": "graph",
    "TargetParams": "parameters",
    "UsageError": "errors",
    "VerificationError": "errors",
    "VerifyReport": "verification.checks",
    "bench": "measurement.bench",
    "cuts": "borders.crossings",
    "emit": "emitting",
    "evaluate": "evaluation",
    "explore": "exploration",
    "load_device": "costmodel.devices",
    "load_fleet": "costmodel.fleets",
    "partition": "partition",  # the subpackage, which is callable
    "place": "placing",
    "plan": "pipeline",
    "plan_slices": "slices.models",
    "profile": "pipeline",
    "read_graph": "graph.costs_json",
    "read_plan": "planned",
    "replicate": "replication",
    "report": "reporting.build",
    "simulate": "measurement.simulation",
    "slice_model": "slices.models",
    "split": "pipeline",
    "stage_costs": "graph",
    "verify": "verification.checks",
    "write_graph": "graph.costs_json",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Import a public name's module on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("onnx-pipeline")
        except PackageNotFoundError:
            return "0+unknown"
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOME[name]}")
    return home if _HOME[name] == name else getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
