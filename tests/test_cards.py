"""What notebooks show of plans and splits."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import onnx
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline.cards import MOST_ROWS, PARTS, card
from tests.test_brief import chosen

EVIL = '<img src=x onerror="alert(1)">'


class Page(HTMLParser):
    """Checks that tags are balanced; collects them, their attributes and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        """Open a tag."""
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag: str) -> None:
        """Close the one opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect."""
        self.text += f"{data} "


def test_the_bars_are_the_costs() -> None:
    """A row per stage, widths in shares of the bottleneck, the verdict of the table below."""
    result = chosen()
    document = result.to_json()
    shown = result._repr_html_()
    page = Page(shown)
    assert page.tags.count("tr") == 1 + result.used
    most = document["certificate"]["bottleneck_seconds"]
    widths = [float(width) for width in re.findall(r"height:100%;width:([\d.]+)%", shown)]
    costs = [stage["cost"][key] for stage in document["stages"] for _, key, _ in PARTS if stage["cost"][key]]
    assert widths == pytest.approx([100 * cost / most for cost in costs], abs=0.01)
    for word in ("two branches", "bottleneck", "lower bound", "proved optimal", "work", "overhead"):
        assert word in page.text


def test_names_are_escaped_and_nothing_is_loaded() -> None:
    """Graphs and devices may be called anything; there is no script, no style sheet, no address."""
    result = chosen()
    target = replace(result.target, name=EVIL)
    evil = replace(
        result,
        partition=replace(result.partition, graph=replace(result.graph, name=f"{EVIL}\x1b"), target=target),
    )
    page = Page(evil._repr_html_())
    assert set(page.tags) <= {"div", "b", "span", "table", "tr", "th", "td"}
    assert {name for name, _ in page.attributes} <= {"style", "title", "colspan"}
    assert page.text.count(EVIL) == 2
    assert "\x1b" not in page.text
    assert "http" not in evil._repr_html_()


def test_a_manifest(tmp_path: Path) -> None:
    """With measurements, where there are any."""
    onnx.save(builders.mlp(), tmp_path / "mlp.onnx")
    written = op.split(tmp_path / "mlp.onnx", stages=2, output=tmp_path / "out", cost_model="analytic")
    page = Page(written._repr_html_())
    assert "mlp.onnx" in page.text
    assert page.tags.count("tr") == 1 + len(written.stages)


def test_many_stages_and_no_costs() -> None:
    """Rows end somewhere, and nothing divides by 0."""
    document = chosen().to_json()
    document["stages"] = document["stages"][:1] * (MOST_ROWS + 3)
    assert "and 3 further stages" in Page(card(document)).text
    free = op.GraphBuilder("free")
    free.add_node("a", 0)
    assert "bottleneck" in Page(op.partition(free.build(), 2)._repr_html_()).text


def test_to_json_of_a_graph(tmp_path: Path) -> None:
    """The document that is written."""
    import json

    graph = chosen().graph
    op.write_graph(graph, tmp_path / "costs.json")
    assert json.loads((tmp_path / "costs.json").read_text(encoding="utf-8")) == graph.to_json()


def test_replicas_are_shown() -> None:
    """The devices of every stage, its period, bars as long as periods, and why."""
    builder = op.GraphBuilder("chain")
    for i, work in enumerate((3e6, 1e6)):
        builder.add_node(f"v{i}", work)
        builder.add_group(f"w{i}", 10, [i])
    plan = op.plan(builder.build(), devices=4, memory=10, memory_mode="hard", device="ideal", time_limit=2)
    html = plan._repr_html_()  # type: ignore[union-attr]
    assert ">devices</th>" in html
    assert ">3</td>" in html
    assert html.count("width:100.00%") == 2
    assert "2 stages on 3 and 1 devices serve 1,000/s" in html
