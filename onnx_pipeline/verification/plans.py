"""Checking a plan: its certificate against the costs that it names."""

from __future__ import annotations

from pathlib import Path

from onnx_pipeline.planfile import read_plan
from onnx_pipeline.planned import planned_graph
from onnx_pipeline.verification.claimed import claim_of
from onnx_pipeline.verification.claims import Verdict, check_claim


def check_plan(path: Path, recheck: float | None) -> tuple[int, Verdict]:
    """Return the number of stages of a plan, and what is wrong with it.

    Raises
    ------
    InputError
        If plan or costs cannot be read, or the costs are not those that were planned.
    """
    document = read_plan(path)
    graph = planned_graph(path, document)
    stages = document["stages"]
    return len(stages), check_claim(graph, claim_of(document), recheck)
