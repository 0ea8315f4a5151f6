"""A sample of the forgeries; ``python -m benchmarks.forgery`` makes thousands."""

from __future__ import annotations

from benchmarks.forgery import campaign


def test_forgeries_are_refused_or_harmless() -> None:
    """Whatever is changed in manifest, costs or plan: one line or no effect, from every command."""
    found = campaign(30, seed=2)
    assert found.wrong == []
    assert found.found["refused"] > 20
    assert found.found["harmless"] > 5
