"""Tables and units: every figure from the document, nothing cut, plain where the terminal is plain."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from onnx_pipeline.cli import console, main, tables
from onnx_pipeline.cli.terminal import fold
from onnx_pipeline.files import npz
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.verification.checks import VerifyReport
from onnx_pipeline.verification.compare import OutputCheck


def document(*totals: float, overflow: float = 0.0, **certificate: Any) -> dict[str, Any]:
    """A plan document with one stage per given total (seconds)."""
    stages = [
        {
            "index": index,
            "nodes": 10 + index,
            "cost": {
                "total_seconds": total,
                "work_seconds": total / 2,
                "input_seconds": total / 4,
                "output_seconds": total / 4,
                "overflow_seconds": overflow,
            },
            "parameter_bytes": 3 << 20,
        }
        for index, total in enumerate(totals)
    ]
    bottleneck = max(totals)
    return {
        "graph": {"name": "net", "nodes": 100, "tensors": 99},
        "target": {"device": "cpu", "stages": 8, "bandwidth_bytes_per_second": 16e9, "memory_bytes": None},
        "certificate": {
            "bottleneck_seconds": bottleneck,
            "lower_bound_seconds": 0.9 * bottleneck,
            "ratio": 0.9,
            "gap": 0.1,
            "status": "feasible",
            "one_device_seconds": sum(totals),
            "bounds": [
                {"method": "simple", "seconds": 0.5 * bottleneck, "solver": None, "wall_seconds": 0.0},
                {"method": "flow", "seconds": 0.9 * bottleneck, "solver": "someone", "wall_seconds": 0.0},
            ],
        }
        | certificate,
        "stages": stages,
    }


def rendered(content: dict[str, Any], *, width: int | None = None, encoding: str = "utf-8") -> str:
    """The report as text: piped, or on a terminal of a given width."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    if width is None:
        tables.show(content, stream)
    else:
        tables.render(Console(file=stream, width=width, force_terminal=True, color_system=None), content)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_table_has_every_figure() -> None:
    """Per stage nodes, work, transfers, parameters and total; then the verdict."""
    text = rendered(document(0.010, 0.008) | {"phases": {"load": 0.5, "partition": 2.0}})
    first, second = (line.split() for line in text.splitlines()[3:5])
    assert " ".join(first) == "0 10 5.00 ms 2.50 ms 2.50 ms 3.00 MiB 10.0 ms ██████████ 100 %"
    assert second[:2] == ["1", "11"]
    assert " 80 %" in text.splitlines()[4]
    assert "bottleneck   10.0 ms, 100 inferences/s" in text
    assert "speed-up     1.80 x over one device (18.0 ms)" in text
    assert "lower bound  9.00 ms by the flow bound (someone)" in text
    assert "gap          10.0 %: no partition is better by more than this in the given costs" in text
    assert "time         2.50 s (load 500 ms, partition 2.00 s)" in text
    assert text.splitlines()[0] == "net: 2 of 8 stages on cpu, 16 GB/s"


def test_a_proof_is_called_one() -> None:
    """Status optimal reads as such."""
    text = rendered(document(1.0, status="optimal", gap=0.0))
    assert "gap          0 %: proved optimal in the given costs" in text


def test_overflow_has_a_column_where_there_is_any() -> None:
    """And none where there is none."""
    assert "overflow" not in rendered(document(1.0))
    assert "overflow" in rendered(document(1.0, overflow=0.25))


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_figure_is_cut_on_a_narrow_terminal(width: int) -> None:
    """What has no room beside the other columns goes below them, bars included; figures stay whole."""
    text = rendered(document(0.0123, 0.0111, overflow=0.001), width=width)
    assert "…" not in text
    for figure in ("6.15 ms", "3.08 ms", "3.00 MiB", "12.3 ms", "100 %"):
        assert figure in text
    assert "█" in text
    assert max(map(len, text.splitlines()[1:])) <= width


def test_words_stay_whole_at_80_columns() -> None:
    """All columns there are, and a long verdict: no line is longer than the terminal, no word is cut."""
    content = document(
        0.0123, 0.0111, overflow=0.001, costs="profile, corrected by 1 measurement of the stages"
    )
    for stage in content["stages"]:
        stage["peak_activation_bytes"] = 5 << 20
        stage["measured"] = {"seconds": 0.0119, "spread": 0.04, "predicted_seconds": 0.01}
    content["measurement"] = {"rounds": 12, "reference_seconds": 0.02}
    content["target"] |= {"memory_bytes": 8 << 30, "stage_overhead_seconds": 35e-6}
    content["graph"]["name"] = "a_model_with_a_name_of_its_own"
    text = rendered(content, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert {word for word in rendered(content).split() if "─" not in word} <= set(text.split())
    assert text.count("█" * 9) == 2


def test_plain_characters_where_the_encoding_is_plain() -> None:
    """No character that an ASCII pipe cannot carry."""
    content = document(0.0000123, 0.0000111)
    for stage in content["stages"]:
        stage["measured"] = {"seconds": 0.0000119, "spread": 0.04, "predicted_seconds": 0.01}
    text = rendered(content, encoding="ascii")
    assert "#" in text
    assert "11.9 us +-2 %" in text
    assert "12.3 us" in text


def test_pipes_get_no_escape_codes() -> None:
    """Colours are for terminals."""
    assert "\x1b" not in rendered(document(1.0, 2.0))


def test_one_empty_bottleneck_does_not_divide_by_zero() -> None:
    """A graph whose work is all zero."""
    content = document(0.0)
    assert "bottleneck   0 s: nothing takes time\n" in rendered(content)


def test_costs_list_the_most_expensive_nodes_first() -> None:
    """Ten nodes, largest first, each with its output and its parameters."""
    builder = GraphBuilder("net", meta={"cost_model": "profile"})
    for index in range(20):
        builder.add_node(f"node{index}", 1000 * index)
    builder.add_net("t", 19, [], nbytes=2048, to_host=True)
    builder.add_group("w", 4096, [19, 18])
    stream = io.StringIO()
    tables.show_costs(builder.build(), {"load": 1.0}, stream)
    lines = stream.getvalue().splitlines()
    assert lines[2].split() == ["19.0", "us", "10.0", "%", "2.00", "KiB", "4.00", "KiB", "node19"]
    assert "node9" not in stream.getvalue()
    assert lines[0] == "net: 20 nodes, 1 tensor"
    assert "work        190 us per inference\ncosts       profiled\n" in stream.getvalue()


def test_arrays_are_described_by_type_shape_and_range() -> None:
    """Numbers have a range, strings and NaN do not."""
    rows = npz.describe(
        {
            "y": np.array([[1.0, 3.0]], np.float32),
            "s": np.array(["a"], object),
            "n": np.array([np.nan]),
            "e": np.zeros((0, 2)),
        }
    )
    assert rows[0] == {"name": "y", "dtype": "float32", "shape": [1, 2], "min": 1.0, "max": 3.0, "mean": 2.0}
    assert rows[1] == {"name": "s", "dtype": "string", "shape": [1]}
    assert "min" not in rows[2]
    assert "min" not in rows[3]
    stream = io.StringIO()
    tables.show_arrays(rows, stream)
    assert "1x2" in stream.getvalue()


def test_measured_stages_have_a_column() -> None:
    """Measured seconds with half their spread, and peaks."""
    content = document(0.010, 0.008)
    for stage, seconds in zip(content["stages"], (0.009, 0.0125), strict=True):
        stage["peak_activation_bytes"] = 5 << 20
        stage["measured"] = {"seconds": seconds, "spread": 0.04, "predicted_seconds": 0.010}
    content["measurement"] = {"rounds": 12, "reference_seconds": 0.02}
    text = rendered(content)
    assert "9.00 ms ±2 %" in text
    assert "5.00 MiB" in text


def test_headline_counts_stages_and_names_the_file() -> None:
    """One stage is singular, stages left empty are told, and "main_graph" says nothing to anybody."""
    content = document(1.0)
    content["target"]["stages"] = 1
    assert tables.headline(content) == "net: 1 stage on cpu, 16 GB/s"
    content["graph"]["file"] = "costs/resnet50.json"
    content["target"] |= {"stages": 40, "memory_bytes": 8 << 20, "stage_overhead_seconds": 35e-6}
    assert tables.headline(content) == (
        "resnet50.json: 1 of 40 stages on cpu, 16 GB/s, 8.00 MiB memory, 35.0 us overhead per stage"
    )


def test_a_bar_gives_way_before_a_column_does() -> None:
    """The table of a plan is 82 columns wide with whole bars, and one table at 80."""
    content = document(0.0123, 0.0111)
    for stage in content["stages"]:
        stage["peak_activation_bytes"] = 5 << 20
    natural = len(rendered(content).splitlines()[2])
    assert natural > 80
    for width in (natural - 1, natural - 6):
        text = rendered(content, width=width)
        assert text.count("stage ") == 1
        assert max(map(len, text.splitlines()[:5])) <= width
        assert "90 %" in text
    assert rendered(content, width=natural - 7).count("stage ") == 2


def test_a_long_name_is_folded_beside_its_figures() -> None:
    """On a terminal, not in a pipe; the figures stay in one piece."""
    rows = [{"name": "layers." * 12 + "output", "dtype": "float32", "shape": [1, 1000], "min": 1.5}]
    narrow = io.StringIO()
    table_console = Console(file=narrow, width=60, force_terminal=True, color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "make_console", lambda _stream: table_console)
        tables.show_arrays(rows)
    assert max(map(len, narrow.getvalue().splitlines())) <= 60
    assert "float32  1x1000" in narrow.getvalue()
    wide = io.StringIO()
    tables.show_arrays(rows, wide)
    assert rows[0]["name"] in wide.getvalue()


def test_a_figure_keeps_its_unit_beside_it() -> None:
    """Wherever a line is folded."""
    text = "load 10.5 ms, infer shapes 3.27 ms, profile 17.2 ms, 44 % less, after 57 rounds"
    for width in range(30, 60):
        lines = fold(f"time  {text}", width, 6).splitlines()
        assert max(map(len, lines)) <= width
        assert not any(line[-1].isdigit() for line in lines)
        assert " ".join(line.strip() for line in lines) == f"time  {text}"


def test_outputs_are_summarised() -> None:
    """One line for all of them, the worst by name; one each where that is asked for."""

    def check(name: str, off: float) -> OutputCheck:
        return OutputCheck(name, off == 0, off, off, 1e-4, True)

    def shown(*outputs: OutputCheck, every: bool = False) -> list[str]:
        stream = io.StringIO()
        report = VerifyReport("out", 1, ("files", "outputs"), (), outputs=outputs)
        tables.show_verification(report, stream, every=every)
        return stream.getvalue().splitlines()

    equal = [check(f"y{index}", 0.0) for index in range(25)]
    assert shown(*equal) == [
        "out: 1 stage, sound",
        "files    ok",
        "outputs  ok, 25 outputs bitwise equal (-v lists them)",
    ]
    assert shown(check("y", 0.0))[-1] == "outputs  ok, 1 output bitwise equal"
    text = shown(*equal, check("a", 1e-7), check("b", 3e-6))[-1]
    assert text.endswith(
        "ok, 2 of 27 outputs within tolerance (-v lists them), "
        "b off by 3e-06 of the largest value, 0.0001 allowed"
    )
    listed = shown(*equal, check("a", 1e-7), every=True)
    assert len(listed) == 3 + 26
    assert listed[3] == "output y0   bitwise equal"
    assert listed[-1] == "output a    within tolerance: off by 1e-07 of the largest value, 0.0001 allowed"


def test_no_escape_of_a_file_reaches_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of graphs, devices, bounds and nodes are spelled out, in tables, notes and errors."""
    evil = "\x1b[2J\x9b31m\u202e"
    content = document(1.0, costs=evil)
    content["graph"]["name"] = content["target"]["device"] = evil
    content["certificate"]["bounds"][1] |= {"method": evil, "solver": evil}
    content["phases"] = {evil: 1.0}
    builder = GraphBuilder(evil, meta={"cost_model": evil})
    builder.add_node(evil, 1000)
    stream = io.StringIO()
    tables.show_costs(builder.build(), {}, stream)
    tables.show_arrays([{"name": evil, "dtype": "float32", "shape": [1]}], stream)
    same = OutputCheck(evil, equal=True, max_abs=0.0, max_rel=0.0, tolerance=0.0, ok=True)
    tables.show_verification(VerifyReport(evil, 1, ("outputs",), (), outputs=(same,)), stream)
    shown = rendered(content) + stream.getvalue()
    (tmp_path / "c.json").write_text(
        json.dumps({"format": "onnx-pipeline/costs", "format_version": 1, "nodes": [{"name": evil}]})
    )
    assert main(["plan", str(tmp_path / "c.json"), "-k", "2"]) == 3
    assert main(["show", str(tmp_path / evil)]) == 3
    speaker = console.Console(verbose=1)
    speaker.note(f"a note on {evil}")
    speaker("note", None, f"another on {evil}")
    speaker("load", None, f"loading {evil}")
    told = capsys.readouterr().err
    for bad in evil[0], evil[4], evil[-1]:
        assert bad not in shown + told
    assert shown.count("\\x1b[2J\\x9b31m") >= 9
    assert told.count("\\x1b[2J\\x9b31m") >= 4
