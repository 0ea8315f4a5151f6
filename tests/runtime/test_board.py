"""Who takes which request next, and who serves what."""

from __future__ import annotations

import pytest

from onnx_pipeline.runtime.board import Board
from onnx_pipeline.runtime.layout import Layout

#: Stage 0 on two replicas, then stage 1 on one.
REPLICAS = Layout(((0,), (0,), (1,)), 2)
#: One device for stages 0 and 2, one for stage 1.
SHARED = Layout(((0, 2), (1,)), 3)


def test_replicas_take_turns() -> None:
    """Whoever has waited longest is first, however often the other was busy."""
    board: Board[str] = Board(REPLICAS)
    assert [board.offer(0, "a"), board.offer(0, "b"), board.offer(0, "c")] == [0, 1, None]
    assert board.finished(1) == (0, "c")
    assert board.finished(0) is None
    assert board.finished(1) is None
    assert [board.offer(0, "d"), board.offer(0, "e")] == [0, 1]


def test_who_has_less_to_do_is_first() -> None:
    """With room for two each."""
    board: Board[str] = Board(REPLICAS, [2, 2, 2])
    assert [board.offer(0, name) for name in "abcde"] == [0, 1, 0, 1, None]
    assert board.finished(1) == (0, "e")
    assert board.finished(0) is None
    assert board.offer(0, "f") == 0


def test_a_sequence_stays_where_it_began() -> None:
    """It waits for its replica while others overtake it, and keeps its own order."""
    board: Board[str] = Board(REPLICAS)
    assert board.offer(0, "s1", "s") == 0
    assert board.offer(0, "s2", "s") is None
    assert board.offer(0, "x") == 1
    assert board.offer(0, "s3", "s") is None
    assert board.offer(0, "y") is None
    assert board.finished(1) == (0, "y")
    assert board.finished(0) == (0, "s2")
    assert board.finished(0) == (0, "s3")
    assert board.finished(0) is None
    board.forget("s")
    assert board.finished(1) is None
    assert board.offer(0, "z") == 1  # in turn
    assert board.offer(0, "s4", "s") == 0


def test_two_of_a_sequence_that_wait_for_anybody() -> None:
    """The first one decides where both go."""
    board: Board[str] = Board(REPLICAS)
    assert [board.offer(0, "a"), board.offer(0, "b")] == [0, 1]
    assert [board.offer(0, "s1", "s"), board.offer(0, "s2", "s")] == [None, None]
    assert board.finished(1) == (0, "s1")
    assert board.finished(0) is None
    assert board.finished(1) == (0, "s2")


def test_the_latest_stage_is_first() -> None:
    """A device that is free takes what is nearly done."""
    board: Board[str] = Board(SHARED)
    assert board.offer(0, "a") == 0
    assert [board.offer(0, "b"), board.offer(2, "c"), board.offer(2, "d")] == [None] * 3
    assert board.finished(0) == (2, "c")
    assert board.finished(0) == (2, "d")
    assert board.finished(0) == (0, "b")
    assert board.finished(0) is None
    assert board.offer(2, "e") == 0


def test_a_worker_that_is_lost() -> None:
    """It gets nothing; what waited for it alone comes back; its sequences are told once."""
    board: Board[str] = Board(REPLICAS)
    assert board.offer(0, "s1", "s") == 0
    assert [board.offer(0, "s2", "s"), board.offer(0, "a"), board.offer(0, "b")] == [None, 1, None]
    assert board.lose(0) == ["s2"]
    assert board.is_served(0)
    assert board.is_lost("s")
    assert not board.is_lost("s")
    assert not board.is_lost(None)
    assert board.finished(1) == (0, "b")
    assert board.offer(0, "c") is None
    board.regain(0)
    assert list(board.settle()) == [(0, 0, "c")]
    assert list(board.settle()) == []
    assert board.lose(1) == []
    assert board.lose(0) == []
    assert not board.is_served(0)


def test_who_may_go_elsewhere_does() -> None:
    """What waited for its sequence's replica is free once the sequence is lost or has ended."""
    layout = Layout(((0,), (0,), (1,), (1,)), 2)
    for lose in (True, False):
        board: Board[str] = Board(layout)
        assert board.offer(0, "s0", "s") == 0
        assert board.offer(1, "s1", "s") == 2
        assert board.offer(1, "s2", "s") is None
        assert list(board.settle()) == []
        if lose:
            assert board.lose(0) == []
        else:
            board.forget("s")
        assert list(board.settle()) == [(3, 1, "s2")]


def test_borders_that_may_be_full() -> None:
    """Only those that no device has stages on both sides of, and never the last."""
    assert Layout.chain(3).bounded == (True, True, False)
    assert REPLICAS.bounded == (True, False)
    assert SHARED.bounded == (False, False, False)
    assert Layout(((0, 1), (2, 4), (3,), (5,)), 6).bounded == (False, True, False, False, True, False)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [(Layout.chain(4), 4 + 2 * 3 + 1), (REPLICAS, 3 + 2 * 2 + 2), (SHARED, 3 + 2 + 1)],
)
def test_capacity(layout: Layout, expected: int) -> None:
    """A request for each stage of each worker, queues behind all but the last, one before the first."""
    assert layout.capacity(2) == expected


def test_load() -> None:
    """Replicas share a stage's time, devices add theirs up."""
    assert REPLICAS.load([4.0, 1.0]) == [2.0, 2.0, 1.0]
    assert SHARED.load([1.0, 5.0, 2.0]) == [3.0, 5.0]
    assert SHARED.replica == (0, 0)
    assert REPLICAS.replica == (0, 1, 0)
