"""Requests let in, carried and recorded, with stages that only pretend."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Mapping, Sequence

import pytest

from onnx_pipeline.errors import PipelineError
from onnx_pipeline.runtime.flow import Flow
from onnx_pipeline.runtime.request import Finish, Request, StageInfo
from onnx_pipeline.runtime.stats import Note, Recorder


class Stages:
    """Keeps what it is given until it is told what became of it."""

    name = "pretend"

    def __init__(self, finish: Finish) -> None:
        self.finish = finish
        self.inside: list[Request] = []
        self.infos: Sequence[StageInfo] = []
        self.notes: Mapping[tuple[int, int], Note] = {}
        self.broken = False
        self.closed: list[BaseException | None] = []

    def put(self, request: Request) -> None:
        """Take a request."""
        if self.broken:
            raise PipelineError("the stages are gone")
        self.inside.append(request)

    def forget(self, sequence: Hashable) -> None:
        """Nothing to forget."""

    def close(self, reason: BaseException | None = None) -> None:
        """Note the reason."""
        self.closed.append(reason)


def make(limit: int = 2) -> tuple[Flow, Stages]:
    """A flow with its stages."""
    made: list[Stages] = []

    def start(finish: Finish) -> Stages:
        made.append(Stages(finish))
        return made[0]

    return Flow(limit, Recorder(["a.onnx"]), start), made[0]


def test_a_request_comes_back() -> None:
    """Its wanted results, in order; failures are raised; both leave the gate and are counted."""
    flow, stages = make()
    good = flow.submit(flow.request({}, ["b", "a"], {"a": [1], "b": [2]}))
    bad = flow.submit(flow.request({}, ["a"], {}))
    assert flow.gate.inside == 2
    assert [request.number for request in stages.inside] == [0, 1]
    stages.finish(stages.inside[0], None)
    stages.finish(stages.inside[1], PipelineError("no"))
    assert good.result() == [[2], [1]]
    with pytest.raises(PipelineError, match="no"):
        bad.result()
    assert flow.gate.inside == 0
    found = flow.stats()
    assert (found.backend, found.requests, found.failed, found.in_flight) == ("pretend", 1, 1, 0)
    flow.forget()
    assert flow.stats().requests == 0
    flow.close()


def test_stages_that_are_gone_keep_nobody_inside() -> None:
    """A request that they do not take leaves the gate again."""
    flow, stages = make()
    stages.broken = True
    with pytest.raises(PipelineError, match="gone"):
        flow.submit(flow.request({}, [], {}))
    assert flow.gate.inside == 0
    flow.close()


def test_close_once() -> None:
    """A drained flow gives the stages no reason; later requests are refused."""
    flow, stages = make()
    flow.check_open()
    flow.close()
    flow.close()
    assert stages.closed == [None]
    with pytest.raises(PipelineError, match="closed"):
        flow.check_open()
    with pytest.raises(PipelineError, match="closed"):
        flow.submit(flow.request({}, [], {}))


def test_a_forgotten_flow_ends_its_stages() -> None:
    """Nobody closed it."""
    flow, stages = make()
    del flow
    gc.collect()
    assert [str(reason) for reason in stages.closed] == ["the pipeline session no longer exists"]
