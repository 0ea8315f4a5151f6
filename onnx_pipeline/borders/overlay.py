"""Data over the nodes of a model for Model Explorer: the stage of each node, or its work.

Model Explorer loads the file next to the model, as custom node data. Its keys are names of nodes: those of
``annotated.onnx``, and of any model that names its nodes uniquely.

References
----------
google-ai-edge/model-explorer, wiki page *Custom node data*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx_pipeline.solution import Solution

#: Colours of stages, told apart by colour-blind readers too; they repeat after the last one.
#: Wong, *Points of view: Color blindness*, Nature Methods 8, 2011, without black.
STAGE_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#0072B2", "#D55E00")
#: Dark text stands on every one of them but these.
_DARK = ("#0072B2", "#D55E00", "#009E73")


def stage_data(result: Solution) -> dict[str, Any]:
    """Return the stage of every ONNX node, each stage with a colour of its own."""
    entries: dict[str, Any] = {}
    for names, stage in zip(result.graph.onnx_nodes, result.stage_of.tolist(), strict=True):
        colour = STAGE_COLOURS[stage % len(STAGE_COLOURS)]
        look = {"bgColor": colour, "textColor": "#FFFFFF" if colour in _DARK else "#000000"}
        entries |= {name: {"value": f"stage {stage}", **look} for name in names}
    return {"name": "stage", "results": entries}


def work_data(result: Solution) -> dict[str, Any]:
    """Return the work of every node in microseconds, from white to orange.

    A node of the costs that stands for several ONNX nodes gives each of them an equal share.
    """
    graph = result.graph
    entries: dict[str, Any] = {}
    for names, ticks in zip(graph.onnx_nodes, graph.work.tolist(), strict=True):
        share = 1e6 * graph.seconds(ticks) / max(1, len(names))
        entries |= {name: {"value": round(share, 3)} for name in names}
    gradient = [
        {"stop": 0, "bgColor": "#FFFFFF", "textColor": "#000000"},
        {"stop": 1, "bgColor": "#E69F00", "textColor": "#000000"},
    ]
    return {"name": "work in us", "results": entries, "gradient": gradient}


#: By name, what makes the data.
OVERLAYS: dict[str, Callable[[Solution], dict[str, Any]]] = {"stage": stage_data, "work": work_data}
