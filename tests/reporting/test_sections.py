"""The sections: what their tables say, and the command that asks for the same."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

import onnx_pipeline as op
from onnx_pipeline import planfile
from onnx_pipeline.cli.commands import cli
from onnx_pipeline.reporting import sections
from onnx_pipeline.reporting.subject import Subject, read_subject
from tests.reporting.subjects import chain, cut
from tests.splitting import save, split

MODEL = "m (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  b = Neg(a)  y = Abs(b) }"


def parsed(line: str) -> dict[str, object]:
    """What the command line reads from a command."""
    program, verb, *arguments = shlex.split(line)
    assert program == "onnx-pipeline"
    command = cli.commands[verb]
    return command.make_context(verb, arguments).params


@pytest.mark.parametrize(
    ("bandwidth", "memory", "text"),
    [
        (16e9, 3 << 30, "--bandwidth 16GB/s --memory 3GiB"),
        (1234567.0, 1000.0, "--bandwidth 1234567B/s --memory 1000B"),
        (2.5e6, 1536.0, "--bandwidth 2500kB/s --memory 1536B"),
        (math.inf, math.inf, "--bandwidth inf --memory inf"),
    ],
)
def test_the_command_asks_for_the_same(bandwidth: float, memory: float, text: str) -> None:
    """Its options are read as what the plan was made for, and are short."""
    result = cut(chain(["a", "b"]), 2)
    target = replace(result.target, bandwidth=bandwidth, memory=memory, memory_mode="hard", name="cpu")
    planned = replace(result, partition=replace(result.partition, target=target))
    line = sections.command(Subject(planfile.plan_document(planned), planned.partition))
    assert text in line
    given = parsed(line)
    assert (given["stages"], given["bandwidth"], given["memory"]) == (2, bandwidth, memory)
    assert given["memory_mode"] == "hard"


def test_the_command_of_a_split(tmp_path: Path) -> None:
    """Model, dimensions and cost model, too."""
    path = save(tmp_path, MODEL, name="my model.onnx")
    split(path, tmp_path / "out", 3, dims={"N": 2})
    line = sections.command(read_subject(tmp_path / "out"))
    assert line.startswith("onnx-pipeline split 'my model.onnx' -k 3 --device ")
    assert line.endswith("--cost-model flat --dim N=2 --seed 0")


def test_tables_say_what_charts_show() -> None:
    """Every stage with all its parts; every transfer with its tensors."""
    result = cut(chain(["a", "b", "c", "d", "e", "f"]), 3, memory=800)
    document = planfile.plan_document(result)
    stages = sections.stages(document).table
    assert stages is not None
    assert stages[0] == ["stage", "nodes", "in", "work", "out", "overflow", "total"]
    assert [row[3] for row in stages[1]] == ["2.00 ms"] * 3
    transfers = sections.transfers(Subject(document, result.partition)).table
    assert transfers is not None
    assert transfers[1][2] == ["0", "2", "2.93 KiB", "yes", "skipping"]


def test_replicas_divide_the_bars() -> None:
    """The table has devices and period, the title names all devices, the command asks for them again."""
    from onnx_pipeline.reporting.page import target_text
    from onnx_pipeline.reporting.verdict import tiles

    builder = op.GraphBuilder("chain")
    for i, work in enumerate((3e6, 1e6)):
        builder.add_node(f"v{i}", work)
        builder.add_group(f"w{i}", 10, [i])
    plan = op.plan(builder.build(), devices=5, memory=10, memory_mode="hard", device="ideal", time_limit=2)
    subject = read_subject(plan)
    found = sections.stages(subject.document)
    assert found.table is not None
    headings, rows = found.table
    assert headings[-2:] == ["devices", "period"]
    assert [row[-2:] for row in rows] == [["3", "1.00 ms"], ["1", "1.00 ms"]]
    assert target_text(subject.document["target"]).startswith("5 devices (ideal)")
    assert "--devices 5" in sections.command(subject)
    shown = {label: (value, text) for label, value, text in tiles(subject.document)}
    assert shown["devices"][0] == "4 of 5"
    assert shown["devices"][1].startswith("A replica of the whole model needs 20 B")
    assert shown["period"] == ("1.00 ms", "stages 0, 1")
