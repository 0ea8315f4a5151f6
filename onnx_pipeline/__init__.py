"""Split an ONNX model into k pipeline stages with a certified bottleneck.

Everything here is imported on first use: ``import onnx_pipeline`` loads neither onnx nor numpy.

Examples
--------
>>> import onnx_pipeline as op
>>> op.split("model.onnx", stages=8, output="out")  # doctest: +SKIP
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_pipeline.benchmark import bench as bench
    from onnx_pipeline.costmodel import CostModel as CostModel
    from onnx_pipeline.costmodel import CostRequest as CostRequest
    from onnx_pipeline.costmodel import NodeCosts as NodeCosts
    from onnx_pipeline.costmodel.devices import Device as Device
    from onnx_pipeline.costmodel.devices import load_device as load_device
    from onnx_pipeline.errors import InfeasibleError as InfeasibleError
    from onnx_pipeline.errors import InputError as InputError
    from onnx_pipeline.errors import PipelineError as PipelineError
    from onnx_pipeline.errors import StageError as StageError
    from onnx_pipeline.errors import UsageError as UsageError
    from onnx_pipeline.errors import VerificationError as VerificationError
    from onnx_pipeline.graph import CostGraph as CostGraph
    from onnx_pipeline.graph import StageCost as StageCost
    from onnx_pipeline.graph import Target as Target
    from onnx_pipeline.graph import stage_costs as stage_costs
    from onnx_pipeline.graph_builder import GraphBuilder as GraphBuilder
    from onnx_pipeline.graphio import read_graph as read_graph
    from onnx_pipeline.graphio import write_graph as write_graph
    from onnx_pipeline.manifest import Manifest as Manifest
    from onnx_pipeline.partition.portfolio import partition as partition
    from onnx_pipeline.partition.result import Bound as Bound
    from onnx_pipeline.partition.result import PartitionResult as PartitionResult
    from onnx_pipeline.pipeline import plan as plan
    from onnx_pipeline.pipeline import profile as profile
    from onnx_pipeline.pipeline import split as split
    from onnx_pipeline.runtime import PipelineSession as PipelineSession
    from onnx_pipeline.simulation import Simulation as Simulation
    from onnx_pipeline.simulation import simulate as simulate
    from onnx_pipeline.verify import VerifyReport as VerifyReport
    from onnx_pipeline.verify import verify as verify

    __version__: str

_HOME = {
    "Bound": "partition.result",
    "CostGraph": "graph",
    "CostModel": "costmodel",
    "CostRequest": "costmodel",
    "Device": "costmodel.devices",
    "GraphBuilder": "graph_builder",
    "InfeasibleError": "errors",
    "InputError": "errors",
    "Manifest": "manifest",
    "NodeCosts": "costmodel",
    "PartitionResult": "partition.result",
    "PipelineError": "errors",
    "PipelineSession": "runtime",
    "Simulation": "simulation",
    "StageCost": "graph",
    "StageError": "errors",
    "Target": "graph",
    "UsageError": "errors",
    "VerificationError": "errors",
    "VerifyReport": "verify",
    "bench": "benchmark",
    "load_device": "costmodel.devices",
    "partition": "partition",  # the subpackage, which is callable
    "plan": "pipeline",
    "profile": "pipeline",
    "read_graph": "graphio",
    "simulate": "simulation",
    "split": "pipeline",
    "stage_costs": "graph",
    "verify": "verify",  # the submodule, made callable below
    "write_graph": "graphio",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Import the home of a public name the first time that somebody asks for it (PEP 562)."""
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


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Forward to the function that has the module's name."""
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        """Make ``op.verify`` callable: importing the submodule of that name binds it here."""
        if name == "verify" and isinstance(value, ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
