"""Reports in a real browser: no error, no request, search and keys work, nothing is wider than the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import onnx_pipeline as op
from tests.reporting.subjects import HOSTILE, chain, cut

pytest.importorskip("vl_convert", reason="charts need vl-convert-python")
pytest.importorskip("pygraphviz", reason="graphs need pygraphviz")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window for which no name has an address."""
    with playwright.sync_playwright() as driver:
        # A container has no sandbox to offer; only files of the tests are opened.
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"]
        running = driver.chromium.launch(executable_path=BROWSER, args=arguments)
        yield running
        running.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a chain with hostile names."""
    output = tmp_path_factory.mktemp("report") / "report.html"
    return op.report(cut(chain(HOSTILE), 3, memory=4000), output)


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Open a report; whatever the browser complains of or asks for fails the test in the end."""
    heard: list[str] = []

    def call(path: Path, width: int = 1600, scheme: str = "light", **options: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: heard.append(dialog.message))
        page.on("request", lambda request: heard.append(request.url))
        page.goto(path.as_uri())
        assert heard.pop(0) == path.as_uri()
        return page

    yield call
    assert not heard


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_complaint_and_fits(hostile: Path, opened: Any, width: int, scheme: str) -> None:
    """No scrolling sideways, one chart of each pair is seen, and the colours follow the scheme."""
    page = opened(hostile, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator(".chart:visible").count() == 5
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 29)")


def test_it_says_everything_without_scripts(hostile: Path, opened: Any) -> None:
    """Charts, boxes and tables are there before any script runs."""
    page = opened(hostile, java_script_enabled=False)
    assert page.locator(".box").count() == len(HOSTILE)
    assert page.locator("#transfers tbody tr").count() == 5


def test_a_search_finds_nodes_and_keeps_the_focus(hostile: Path, opened: Any) -> None:
    """Each Enter goes on to the next hit; the tooltip is text, whatever a node is called."""
    page = opened(hostile)
    page.fill("#search", "onerror")
    assert page.inner_text("#found") == "1 found"
    page.keyboard.press("Enter")
    assert page.inner_text("#found") == "1 of 1"
    assert page.inner_text("#tip div:first-child") == HOSTILE[0]
    assert page.evaluate("document.activeElement.id") == "search"
    page.fill("#search", "")
    assert page.inner_text("#found") == ""
    page.fill("#search", "stage 1")
    assert page.inner_text("#found") == "2 found"
    page.select_option("#jump", "2")
    assert page.inner_text("#found") == "0 found"


def test_keys_walk_along_tensors(hostile: Path, opened: Any) -> None:
    """From the search, tab by tab, into the picture; down to a reader, up again, away with Escape."""
    page = opened(hostile)
    page.focus("#fit")
    page.keyboard.press("Tab")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused).startswith(HOSTILE[0])
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused).startswith(HOSTILE[1])
    assert page.inner_text("#tip").startswith(HOSTILE[1])
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused).startswith(HOSTILE[0])
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused).startswith(HOSTILE[2])
    page.keyboard.press("End")
    assert page.evaluate(focused).startswith(HOSTILE[-1])
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_marks_and_boxes_have_tooltips(hostile: Path, opened: Any) -> None:
    """What a bar stands for; cost, tensors and bytes of a node; a click pins it."""
    page = opened(hostile)
    page.locator("#stages .wide path[data-tip^='stage 0: work']").hover()
    assert page.inner_text("#tip") == "stage 0: work 2.00 ms"
    box = page.locator(".box").nth(1)
    box.click()
    page.mouse.move(0, 0)
    lines = page.inner_text("#tip").splitlines()
    assert "work 1.00 ms, 50.0 % of the stage's work" in lines
    assert "parameters 500 B" in lines
    assert f"in t {HOSTILE[0]}: 1000 B" in lines


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(hostile: Path, opened: Any, width: int, scheme: str) -> None:
    """Axe finds nothing wrong: contrast, names, roles, order of headings."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(opened(hostile, width, scheme, bypass_csp=True))
    assert not found.response["violations"], found.generate_report()
    assert found.response["passes"]


def test_zoom(hostile: Path, opened: Any) -> None:
    """Closer, farther, and all of it at once."""
    page = opened(hostile, 400)
    width = "document.querySelector('#picture svg').getBoundingClientRect().width"
    natural = page.evaluate(width)
    page.click("#larger")
    assert page.evaluate(width) > natural
    page.click("#fit")
    assert page.evaluate(width) <= page.evaluate("document.getElementById('picture').clientWidth")


@pytest.mark.parametrize("name", ["squeezenet", "inception_v1", "densenet121"])
def test_reports_of_real_models(name: str, light_dir: Path, opened: Any, tmp_path: Path) -> None:
    """A split in eight: small enough, with operators and shapes, and the browser is content."""
    model = light_dir / f"light_{name}.onnx"
    op.split(model, stages=8, output=tmp_path / "out", cost_model="analytic", time_limit=2.0)
    output = op.report(tmp_path / "out", tmp_path / "report.html")
    assert output.stat().st_size <= 2_000_000
    page = opened(output)
    page.fill("#search", "MaxPool")
    assert page.inner_text("#found") not in ("", "0 found")
    page.keyboard.press("Enter")
    tip = page.inner_text("#tip")
    assert "· MaxPool\n" in tip
    assert "float32[1, " in tip
