"""The page as a text: what it holds, and that names cannot break out of it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import onnx_pipeline as op
from onnx_pipeline import planfile
from onnx_pipeline.reporting.subject import Subject
from tests.reporting.subjects import HOSTILE, chain, cut

pytest.importorskip("vl_convert", reason="charts need vl-convert-python")
pytest.importorskip("pygraphviz", reason="graphs need pygraphviz")


class Outline(HTMLParser):
    """Tags with their attributes, and the text of every script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note the text of a script."""
        if self.cdata_elem == "script":
            self.scripts.append(data)

    def attributes(self, tag: str, name: str) -> list[str]:
        """Values of an attribute of all tags of a kind."""
        return [str(attrs[name]) for found, attrs in self.tags if found == tag and name in attrs]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report on a chain with hostile names."""
    output = tmp_path_factory.mktemp("report") / "report.html"
    return op.report(cut(chain(HOSTILE), 3, memory=4000), output).read_text(encoding="utf-8")


def test_sections_come_in_their_order(page: str) -> None:
    """The verdict first, where things come from last; the navigation leads to each."""
    outline = Outline(page)
    order = ["verdict", "stages", "memory", "transfers", "graph", "measured", "timeline", "history"]
    assert outline.attributes("section", "id") == [*order, "warnings", "origin"]
    assert [link for link in outline.attributes("a", "href") if link != "#warnings"][1:] == [
        f"#{key}" for key in (*order, "origin")
    ]


def test_names_stay_text(page: str) -> None:
    """No name becomes an element, an attribute, a template or a terminal's escape."""
    outline = Outline(page)
    assert not {"img", "iframe", "object", "link", "base"} & {tag for tag, _ in outline.tags}
    assert not [name for _, attrs in outline.tags for name in attrs if name.startswith("on")]
    assert len([tag for tag, _ in outline.tags if tag == "script"]) == 2
    assert "{{ 7 * 7 }}{% raw %}" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", page)
    data = json.loads(outline.scripts[0])
    assert {box["lines"][0] for box in data} >= {
        HOSTILE[0],
        HOSTILE[1],
        "\\x1b[31mred\\x07",
        "\\u202egnp.exe",
    }


def test_nothing_is_asked_of_others(page: str) -> None:
    """No address but the names of XML's own, and a policy that lets the browser refuse any other."""
    outline = Outline(page)
    addresses = set(re.findall(r"https?://[^\"'<> ]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not {name for _, attrs in outline.tags for name in attrs} & {"src", "srcset", "xlink:href"}
    (policy,) = (attrs["content"] for tag, attrs in outline.tags if tag == "meta" and "http-equiv" in attrs)
    assert str(policy).startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")


def test_every_control_has_a_name(page: str) -> None:
    """Identifiers once each, labels, texts for pictures; one box of the graph takes the focus."""
    outline = Outline(page)
    identifiers = [str(attrs["id"]) for _, attrs in outline.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    fields = {str(attrs["id"]) for tag, attrs in outline.tags if tag in ("input", "select")}
    assert fields == set(outline.attributes("label", "for"))
    assert all("aria-label" in a for tag, a in outline.tags if tag == "svg" and a.get("role") == "img")
    boxes = [attrs for tag, attrs in outline.tags if tag == "g" and attrs.get("role") == "button"]
    assert [box["tabindex"] for box in boxes] == ["0", *["-1"] * (len(HOSTILE) - 1)]
    assert all(box["aria-label"] for box in boxes)


def test_charts_are_there_for_wide_and_narrow_pages(page: str) -> None:
    """Two widths of each of the five charts that a plan has."""
    classes = Outline(page).attributes("div", "class")
    assert classes.count("chart wide") == classes.count("chart narrow") == 5


def test_the_same_result_makes_the_same_page(tmp_path: Path) -> None:
    """Nothing depends on the time or on chance."""
    result = cut(chain(["a", "b", "c"]), 2)
    first, second = (op.report(result, tmp_path / name).read_bytes() for name in ("1.html", "2.html"))
    assert first == second


def test_sections_without_costs_say_so() -> None:
    """Stages and memory are drawn all the same."""
    from onnx_pipeline.reporting.page import render

    document = planfile.plan_document(cut(chain(["a", "b", "c"]), 2))
    text = render(Subject(document, None, missing="costs.json: gone <b>"))
    assert text.count("Not known without the costs: costs.json: gone &lt;b&gt;") == 2
    assert Outline(text).attributes("div", "class").count("chart wide") == 4


def test_sixty_four_stages_and_a_thousand_nodes(tmp_path: Path) -> None:
    """Layers instead of nodes; the names of all nodes can be searched for."""
    names = [f"/net/block{i // 16}/op{i}" for i in range(1024)]
    text = op.report(cut(chain(names), 64), tmp_path / "report.html").read_text(encoding="utf-8")
    outline = Outline(text)
    boxes = json.loads(outline.scripts[0])
    assert len(boxes) == 64
    assert sorted(name for box in boxes for name in box["names"]) == sorted(names)
    assert len(text) < 2_000_000


def test_extremes_make_a_page(tmp_path: Path) -> None:
    """No node, one node, names longer than any page, stages that stay empty, nothing that costs anything."""
    from dataclasses import replace

    import numpy as np

    from onnx_pipeline.partition.result import Certificate, PartitionResult

    result = cut(chain(["a", "b", "c"]), 3)
    holes = replace(result.partition, stages=9, stage_of=np.array([0, 3, 7]))
    nothing = replace(cut(chain(["a", "b"], milliseconds=0), 2), certificate=Certificate())
    empty = op.GraphBuilder("empty").build()
    none = replace(result.partition, graph=empty, stages=1, stage_of=np.array([], dtype=np.int64))
    for number, given in enumerate(
        (
            cut(chain(["a"], skip=False), 1),
            cut(chain(["x" * 20_000, "y" * 20_000]), 2),
            replace(result, partition=holes),
            nothing,
            PartitionResult(none, Certificate(), result.search),
        )
    ):
        text = op.report(given, tmp_path / f"{number}.html").read_text(encoding="utf-8")
        assert Outline(text).attributes("section", "id")[-1] == "origin"
        assert not re.search("x{201}", re.sub("<script.*?</script>", "", text, flags=re.DOTALL))
