"""`split` and `verify --model` on models that `torch.onnx` exports here, random weights, seconds each.

    pip install -e ".[exports]"
    python -m benchmarks.exports [NAME ...] [--k 2 4 8] [--time-limit 3]

An encoder, a decoder step with past keys and values, a mixture of experts routing each token to its best two,
a detector that ends in NonMaxSuppression, a recurrent tagger and a classifier that leaves early (an If): what
the exporter makes of them is written with its external weights into a temporary folder and split by the real
command line in processes of its own. The first four have dynamic dimensions (batch, sequence, past).
Prints one row per run; exits 1 unless every verification passed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

try:
    import onnxscript
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as error:
    if __name__ != "__main__":
        raise
    print(f'{error.name} is missing: pip install -e ".[exports]"', file=sys.stderr)
    sys.exit(2)

COLUMNS = ("model", "nodes", "k", "used", "verify", "difference")
VOCABULARY, WIDTH, HEADS, LAYERS = 512, 64, 4, 4


@dataclass
class Export:
    """A module, what it is traced with and the dimensions that it is run with."""

    module: nn.Module
    arguments: tuple[Any, ...]
    inputs: list[str]
    outputs: list[str]
    dynamic: Any = None
    dims: dict[str, int] = field(default_factory=dict)
    table: dict[Any, Any] = field(default_factory=dict)


class Encoder(nn.Module):
    """As BERT: learned positions, a padding mask, a pooled output next to the states."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(64, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.norm, self.pool = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.norm(self.tokens(input_ids) + self.positions(positions))
        x = self.layers(x, src_key_padding_mask=attention_mask == 0)
        return x, torch.tanh(self.pool(x[:, 0]))


def encoder() -> Export:
    ids = torch.randint(VOCABULARY, (2, 12))
    axes = {0: torch.export.Dim("batch", max=64), 1: torch.export.Dim("sequence", max=64)}
    names = ["input_ids", "attention_mask"], ["last_hidden_state", "pooler_output"]
    dims = {"batch": 2, "sequence": 16}
    return Export(Encoder(), (ids, torch.ones_like(ids)), *names, dynamic=(axes, axes), dims=dims)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


class Block(nn.Module):
    """As Llama: RMS norms, rotary positions, two key heads for four query heads, a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = WIDTH // HEADS
        self.before, self.after = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.query, self.out = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.key, self.value = (nn.Linear(WIDTH, WIDTH // 2, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(WIDTH, 3 * WIDTH, bias=False) for _ in range(2))
        self.down = nn.Linear(3 * WIDTH, WIDTH, bias=False)

    def forward(
        self, x: torch.Tensor, past: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor, turn: Any
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = self.before(x)
        query, key, value = (
            part(y).unflatten(-1, (-1, self.depth)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        key = torch.cat((past[0], rotate(key, *turn)), 2)
        value = torch.cat((past[1], value), 2)
        wide = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
        y = F.scaled_dot_product_attention(rotate(query, *turn), *wide, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        y = self.after(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y)), key, value


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight  # tied
        depth = WIDTH // HEADS
        self.register_buffer("frequency", 10000.0 ** (-torch.arange(0, depth, 2) / depth))

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        past: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[Any, ...]:
        angle = position_ids[:, None, :, None] * self.frequency
        angle = torch.cat((angle, angle), -1)
        turn = angle.cos(), angle.sin()
        length, before = input_ids.shape[1], past[0][0].shape[2]
        reach = torch.arange(length)[:, None] + before
        mask = torch.arange(before + length)[None, :] <= reach
        x, present = self.tokens(input_ids), []
        for block, pair in zip(self.blocks, past, strict=True):
            x, *now = block(x, pair, mask, turn)
            present.append(tuple(now))
        return self.head(self.norm(x)), present


def decoder() -> Export:
    ids = torch.randint(VOCABULARY, (2, 3))
    shape = (2, 2, 5, WIDTH // HEADS)
    past = [(torch.randn(shape), torch.randn(shape)) for _ in range(LAYERS)]
    batch, length, before = (torch.export.Dim(name, max=64) for name in ("batch", "sequence", "past"))
    cache = {0: batch, 2: before}
    dynamic = ({0: batch, 1: length}, {0: batch, 1: length}, [(cache, cache)] * LAYERS)
    pairs = [f"{i}.{part}" for i in range(LAYERS) for part in ("key", "value")]
    inputs = ["input_ids", "position_ids", *(f"past.{pair}" for pair in pairs)]
    outputs = ["logits", *(f"present.{pair}" for pair in pairs)]
    dims = {"batch": 1, "sequence": 4, "past": 7}
    return Export(
        Decoder(), (ids, torch.arange(5, 8).expand(2, 3).clone(), past), inputs, outputs, dynamic, dims
    )


class Experts(nn.Module):
    """As Mixtral: every token goes to its best two experts, each expert sees only its own tokens."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.norm, self.router = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, count, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(count)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.norm(x).flatten(0, 1)
        weight, chosen = self.router(flat).softmax(-1).topk(2, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        total = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            token, rank = torch.nonzero(chosen == i, as_tuple=True)
            part = expert(flat[token]) * weight[token, rank][:, None]
            total = total.index_add(0, token, part)
        return x + total.view_as(x)


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY)
        self.blocks = nn.ModuleList(Experts() for _ in range(LAYERS))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(input_ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def experts() -> Export:
    ids = torch.randint(VOCABULARY, (2, 12))
    axes = {1: torch.export.Dim("sequence", max=64)}
    return Export(Mixture(), (ids,), ["input_ids"], ["logits"], (axes,), {"sequence": 16})


@torch.library.custom_op("exports::nms", mutates_args=())
def suppress(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Stand in for NonMaxSuppression: the exporter only traces, it never compares results."""
    return torch.zeros((1, 3), dtype=torch.int64)


@suppress.register_fake
def _(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    count = torch.library.get_ctx().new_dynamic_size()
    return torch.empty((count, 3), dtype=torch.int64)


def onnx_suppress(boxes: Any, scores: Any) -> Any:
    op = onnxscript.opset18
    most, overlap, least = (
        op.Constant(value_ints=[20]),
        op.Constant(value_floats=[0.5]),
        op.Constant(value_floats=[0.3]),
    )
    return op.NonMaxSuppression(boxes, scores, most, overlap, least)


class Detector(nn.Module):
    """As YOLO: three scales, an upsampled neck, boxes decoded on a grid, then suppression and gathering."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()

        def convolve(come: int, go: int, stride: int = 2) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(come, go, 3, stride, 1, bias=False), nn.BatchNorm2d(go), nn.SiLU())

        self.stem = nn.Sequential(convolve(3, 16), convolve(16, 32))
        self.down = nn.ModuleList((convolve(32, 32), convolve(32, 48), convolve(48, 64)))
        self.side = nn.ModuleList((nn.Conv2d(48 + 64, 48, 1), nn.Conv2d(32 + 48, 32, 1)))
        self.heads = nn.ModuleList(
            nn.Sequential(convolve(go, go, 1), nn.Conv2d(go, 4 + classes, 1)) for go in (32, 48, 64)
        )

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        levels, x = [], self.stem(image)
        for down in self.down:
            x = down(x)
            levels.append(x)
        for i, side in zip((1, 0), self.side, strict=True):
            levels[i] = side(torch.cat((levels[i], F.interpolate(levels[i + 1], scale_factor=2.0)), 1))
        boxes, scores = [], []
        for stride, head, level in zip((8, 16, 32), self.heads, levels, strict=True):
            out = head(level)
            rows, columns = torch.meshgrid(
                torch.arange(out.shape[2]), torch.arange(out.shape[3]), indexing="ij"
            )
            centre = (torch.stack((rows, columns)) + out[:, :2].sigmoid()) * stride
            size = (out[:, 2:4].exp() * stride).clamp(max=image.shape[2])
            boxes.append(torch.cat((centre - size / 2, centre + size / 2), 1).flatten(2))
            scores.append(out[:, 4:].sigmoid().flatten(2))
        every, score = torch.cat(boxes, 2).transpose(1, 2), torch.cat(scores, 2)
        batch, label, index = suppress(every, score).unbind(1)
        return every[batch, index], score[batch, label, index], label, batch


def detector() -> Export:
    axes = {0: torch.export.Dim("batch", max=64)}
    table = {torch.ops.exports.nms.default: onnx_suppress}
    image = torch.randn(2, 3, 128, 128)
    names = ["image"], ["boxes", "scores", "labels", "images"]
    return Export(Detector(), (image,), *names, dynamic=(axes,), dims={"batch": 2}, table=table)


class Tagger(nn.Module):
    """Convolutions over a spectrum, then recurrences in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Sequential(
            nn.Conv1d(40, WIDTH, 5, padding=2), nn.ReLU(), nn.Conv1d(WIDTH, WIDTH, 3)
        )
        self.recur = nn.LSTM(WIDTH, WIDTH, 2, batch_first=True, bidirectional=True)
        self.again, self.head = nn.GRU(2 * WIDTH, WIDTH, batch_first=True), nn.Linear(WIDTH, 30)

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        x, _ = self.recur(self.convolve(spectrum).transpose(1, 2))
        return self.head(self.again(x)[0]).log_softmax(-1)


def tagger() -> Export:
    return Export(Tagger(), (torch.randn(1, 40, 50),), ["spectrum"], ["tags"])


class Early(nn.Module):
    """A residual classifier whose deeper half runs only where the first half is unsure."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (
            nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)) for _ in range(2)
        )
        self.near, self.far = nn.Linear(WIDTH, 10), nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for layer in self.first:
            x = x + F.relu(layer(x))
        guess = self.near(x).softmax(-1)

        def deeper(x: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
            for layer in self.second:
                x = x + F.relu(layer(x))
            return self.far(x).softmax(-1)

        def enough(x: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
            return guess * 1.0

        return torch.cond(guess.max() < 0.99, deeper, enough, (x, guess)), guess


def early() -> Export:
    return Export(Early(), (torch.randn(1, WIDTH),), ["features"], ["answer", "guess"])


EXPORTS: dict[str, Callable[[], Export]] = {
    "encoder": encoder,
    "decoder": decoder,
    "experts": experts,
    "detector": detector,
    "tagger": tagger,
    "early": early,
}


def write(name: str, folder: Path) -> tuple[Path, dict[str, int]]:
    """Export one model with its weights beside it; return where it is and the dimensions to run it with."""
    torch.manual_seed(0)
    spec, path = EXPORTS[name](), folder / f"{name}.onnx"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            spec.module.eval(),
            spec.arguments,
            path,
            input_names=spec.inputs,
            output_names=spec.outputs,
            dynamic_shapes=spec.dynamic,
            custom_translation_table=spec.table or None,
            opset_version=18,
            dynamo=True,
            external_data=True,
            verbose=False,
        )
    return path, spec.dims


def size(graph: onnx.GraphProto) -> int:
    """Count nodes, those of nested graphs too."""
    inner = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return len(graph.node) + sum(map(size, inner))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onnx_pipeline", *arguments, "-q"], capture_output=True, text=True
    )


def row(path: Path, dims: dict[str, int], k: int, time_limit: float) -> dict[str, object]:
    chosen = [x for name, value in dims.items() for x in ("--dim", f"{name}={value}")]
    nodes = size(onnx.load(path, load_external_data=False).graph)
    result: dict[str, object] = {"model": path.stem, "nodes": nodes, "k": k, "used": "", "difference": ""}
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out")
        search = ("--cost-model", "analytic", "--time-limit", str(time_limit), "--json")
        split = command("split", str(path), "-k", str(k), "-o", out, *search, *chosen)
        if split.returncode:
            return result | {"verify": f"split exits {split.returncode}: {split.stderr.strip()}"}
        result["used"] = len(json.loads(split.stdout)["stages"])
        verify = command("verify", out, "--model", str(path), "--json", *chosen)
    if verify.returncode not in (0, 5):
        return result | {"verify": f"verify exits {verify.returncode}: {verify.stderr.strip()}"}
    differences = [item["max_rel"] for item in json.loads(verify.stdout)["outputs"]]
    worst = "infinite" if None in differences else max(differences, default="none")
    return result | {"verify": "ok" if verify.returncode == 0 else "FAILED", "difference": worst}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXPORTS))
    parser.add_argument("--k", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--time-limit", type=float, default=3)
    options = parser.parse_args()
    if unknown := set(options.names) - set(EXPORTS):
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(EXPORTS)}")
    good = True
    logging.getLogger("torch").setLevel(logging.ERROR)  # torchvision is missing, it says, as it should be
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names or EXPORTS:
            path, dims = write(name, Path(folder))
            for k in options.k:
                got = row(path, dims, k, options.time_limit)
                good &= got["verify"] == "ok"
                print("| " + " | ".join(str(got[column]) for column in COLUMNS) + " |", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
