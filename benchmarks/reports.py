"""Reports on every light model of the onnx package and every model of the zoo, opened in Chromium.

    python -m benchmarks.reports [--splits FOLDER] [--pictures] [NAME ...]

splits each model in eight by computed costs, writes its report with the real command line and opens it, for
a page of 1600 and one of 400 pixels. Fails where a report has more than 2 MB or takes more than 5 s of the
processor, which a busy machine does not change, where the browser complains or is asked for anything but the
file, or where a page scrolls sideways. ``--splits`` keeps the splits for another run, ``--pictures`` renews
the screenshots of the documentation.
"""

from __future__ import annotations

import argparse
import io
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.models import DIMS, ROOT, models

STAGES = 8
MOST_BYTES, MOST_SECONDS = 2_000_000, 5.0
WIDTHS = (1600, 400)
#: What the documentation shows: file, model, width, height and colours of the window, place on the page.
PICTURES = (
    ("report-verdict.png", "unet_plain", 1440, 1040, "light", "verdict"),
    ("report-graph.png", "unet_plain", 1440, 800, "dark", "graph"),
    ("report-narrow.png", "unet_plain", 400, 820, "dark", "stages"),
)


def run(*arguments: str) -> tuple[float, float]:
    """Run the command line; return its seconds, and those of the processor."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "onnx_pipeline", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, busy


def split(name: str, path: Path, output: Path) -> None:
    if output.exists():
        return
    dims = [x for item in DIMS.get(name, {}).items() for x in ("--dim", "=".join(map(str, item)))]
    quick = ["--cost-model", "analytic", "--measure", "0", "--time-limit", "5", "--weights", "reference"]
    # A slow link and little memory: every part of the cost is there to see.
    target = ["--bandwidth", "2GB/s", "--memory", "32MiB"]
    run("split", str(path), "-k", str(STAGES), "-o", str(output), *quick, *target, *dims, "-q")


@contextmanager
def chromium() -> Iterator:
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise SystemExit("there is no Chromium")
    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"]
        browser = driver.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


def open_page(browser, file: Path, width: int, height: int = 900, scheme: str = "light") -> tuple:
    """Open a report; return the page and what the browser complained of."""
    heard: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url[:100]))
    page.goto(file.as_uri())
    heard.remove(file.as_uri()[:100])
    if page.evaluate("document.documentElement.scrollWidth") > width:
        heard.append(f"wider than {width} pixels")
    return page, heard


def check(browser, file: Path, busy: float) -> list[str]:
    """Return what is wrong with a report."""
    wrong = []
    for width in WIDTHS:
        page, heard = open_page(browser, file, width)
        wrong += heard
        page.close()
    if file.stat().st_size > MOST_BYTES:
        wrong.append(f"more than {MOST_BYTES} bytes")
    if busy > MOST_SECONDS:
        wrong.append(f"more than {MOST_SECONDS} s of the processor")
    return wrong


def picture(browser, file: Path, target: Path, width: int, height: int, scheme: str, section: str) -> None:
    """Save what a window shows of a section, in few enough colours to be small."""
    from PIL import Image

    page, _ = open_page(browser, file, width, height, scheme)
    page.evaluate(f"document.getElementById({section!r}).scrollIntoView()")
    if section == "graph":
        page.fill("#search", "conv")
        page.keyboard.press("Enter")
        page.evaluate("document.getElementById('graph').scrollIntoView()")
    image = Image.open(io.BytesIO(page.screenshot()))
    image.convert("RGB").quantize(200, dither=Image.Dither.NONE).save(target, optimize=True)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--splits", type=Path)
    parser.add_argument("--pictures", action="store_true")
    options = parser.parse_args()
    failed, times = [], []
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        folder = options.splits or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        print("| model | kB | seconds | of the processor | browser |\n|---|---|---|---|---|")
        for name, path in models().items():
            if options.names and name not in options.names:
                continue
            split(name, path, folder / name)
            file = folder / f"{name}.html"
            seconds, busy = run("report", str(folder / name), "-o", str(file), "--force", "-q")
            times.append(seconds)
            wrong = check(browser, file, busy)
            failed += [name] * bool(wrong)
            size = file.stat().st_size / 1000
            row = (name, f"{size:.0f}", f"{seconds:.2f}", f"{busy:.2f}", "; ".join(wrong) or "ok")
            print(f"| {' | '.join(row)} |", flush=True)
        if options.pictures:
            for target, name, width, height, scheme, section in PICTURES:
                file = folder / f"{name}.html"
                picture(browser, file, ROOT / "docs" / target, width, height, scheme, section)
    print(f"{len(times)} reports, median {statistics.median(times):.2f} s, slowest {max(times):.2f} s")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
