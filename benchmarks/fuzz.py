"""Broken and hostile files against the whole splitter: ``python -m benchmarks.fuzz --count 10000``.

Every file must end in a split that verifies or in one typed error of one line: no other exception, no crash,
no hang, no memory blow-up and nothing left in the output folder. Files are mutants of small valid models
(bytes flipped, cut, inserted, repeated; fields of the message changed so that it still parses), files of
random bytes and hand-made traps. Each chunk of files runs in a forked worker under a watchdog, so that a
crash or hang of a native library is seen and counted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from models import builders

#: What a file may take.
SECONDS, MEMORY_BYTES = 10.0, 2 << 30
_CHUNK = 25
_INTEGERS = (-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 7, 255, 1 << 16, 1 << 31, (1 << 63) - 1)
_WORDS = ("", "x", "y", "../x", "/etc/passwd", "\x00", "Relu", "If", "ai.onnx", "com.microsoft", "a" * 5000)


def seeds() -> list[bytes]:
    """Return the valid models that mutants start from."""
    from models import structures

    small = {**builders.SMALL, **structures.SMALL}
    return [data for build in small.values() if len(data := build().SerializeToString()) < 200_000]


def mutant(random: np.random.Generator, originals: Sequence[bytes]) -> bytes:
    """Return one broken file."""
    data = originals[int(random.integers(len(originals)))]
    kind = random.random()
    if kind < 0.05:
        return bytes(random.bytes(int(random.integers(1, 3000))))
    if kind < 0.10:
        return data[: int(random.integers(len(data)))]
    if kind < 0.45:
        return _bytes_changed(random, data)
    if kind < 0.5:
        return _trap(random)
    return _fields_changed(random, data)


def _bytes_changed(random: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(len(changed)))
        size = int(random.integers(1, 9))
        action = random.integers(4)
        if action == 0:
            changed[at] ^= 1 << int(random.integers(8))
        elif action == 1:
            changed[at : at + size] = random.bytes(size)
        elif action == 2:
            del changed[at : at + size]
        else:
            changed[at:at] = changed[max(0, at - 40) : at]
    return bytes(changed)


def _fields_changed(random: np.random.Generator, data: bytes) -> bytes:
    """Change fields of the parsed message: what comes out is a message again, and mostly nonsense."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(int(random.integers(1, 5))):
        message: Any = model
        while True:
            fields = [d for d, _ in message.ListFields()]
            if not fields:
                break
            field = fields[random.integers(len(fields))]
            value = getattr(message, field.name)
            repeated = not isinstance(value, (int, float, str, bytes)) and hasattr(value, "__len__")
            if field.message_type is not None:
                if repeated and random.random() < 0.15:
                    index = int(random.integers(len(value)))
                    if random.random() < 0.5:
                        del value[index]
                    else:
                        value.add().CopyFrom(value[index])
                    break
                message = value[int(random.integers(len(value)))] if repeated else value
                if random.random() < 0.05 and not repeated:
                    message.Clear()
                    break
                continue
            _change_scalar(random, message, field, value, repeated)
            break
    return bytes(model.SerializeToString())


def _change_scalar(random: np.random.Generator, message: Any, field: Any, value: Any, repeated: bool) -> None:
    new: Any
    if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64, field.CPPTYPE_UINT64, field.CPPTYPE_ENUM):
        new = int(_INTEGERS[random.integers(len(_INTEGERS))])
        if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_ENUM):
            new = int(np.clip(new, -(1 << 31), (1 << 31) - 1))
        if field.cpp_type == field.CPPTYPE_UINT64:
            new = abs(new)
    elif field.type == field.TYPE_BYTES:
        new = bytes(random.bytes(int(random.integers(0, 64))))
    elif field.cpp_type == field.CPPTYPE_STRING:
        new = _WORDS[random.integers(len(_WORDS))]
    else:
        new = float(random.choice([0.0, np.inf, np.nan, -1.0, 1e38]))
    try:
        if repeated:
            index = int(random.integers(len(value)))
            if random.random() < 0.3:
                value.append(new)
            else:
                value[index] = new
        else:
            setattr(message, field.name, new)
    except (ValueError, TypeError):  # an enumeration takes known values only
        return


def _trap(random: np.random.Generator) -> bytes:
    """Return a hand-made hostile model."""
    traps: tuple[Callable[[], onnx.ModelProto], ...] = (
        _deep, _wide, _recursive, _exponential, _escaping, _huge_constant, _huge_input, _deep_type
    )  # fmt: skip
    return bytes(traps[random.integers(len(traps))]().SerializeToString())


def _model(graph: onnx.GraphProto, functions: Sequence[onnx.FunctionProto] = ()) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions)


def _graph(nodes: Sequence[onnx.NodeProto], *weights: onnx.TensorProto, size: int = 4) -> onnx.GraphProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in "xy")
    return helper.make_graph(nodes, "trap", [x], [y], list(weights))


def _deep() -> onnx.ModelProto:
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["o"])], "g", [], [])
    for level in range(28):
        node = helper.make_node("If", ["c"], [f"o{level}"], then_branch=body, else_branch=body)
        if level > 6:
            del node.attribute[1]
        body = helper.make_graph([node], "g", [], [])
    return _model(_graph([*body.node, helper.make_node("Relu", ["x"], ["y"])]))


def _wide() -> onnx.ModelProto:
    model = _model(_graph([helper.make_node("Relu", ["x"], ["y"])]))
    model.graph.node.extend([onnx.NodeProto()] * 1_200_000)
    return model


def _recursive() -> onnx.ModelProto:
    imports = [helper.make_opsetid("local", 1)]
    call = helper.make_node("f", ["a"], ["b"], domain="local")
    function = helper.make_function("local", "f", ["a"], ["b"], [call], imports)
    return _model(_graph([helper.make_node("f", ["x"], ["y"], domain="local")]), [function])


def _exponential() -> onnx.ModelProto:
    imports = [helper.make_opsetid("local", 1), helper.make_opsetid("", 17)]
    functions = []
    for level in range(40):
        kind = ("Relu", "") if level == 0 else (f"f{level - 1}", "local")
        nodes = [helper.make_node(kind[0], [a], [b], domain=kind[1]) for a, b in (("a", "m"), ("m", "b"))]
        functions.append(helper.make_function("local", f"f{level}", ["a"], ["b"], nodes, imports))
    return _model(_graph([helper.make_node("f39", ["x"], ["y"], domain="local")]), functions)


def _escaping() -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../../../etc/passwd")
    return _model(_graph([helper.make_node("Add", ["x", "w"], ["y"])], weight))


def _huge_constant() -> onnx.ModelProto:
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1 << 31, 1 << 10])
    made = helper.make_node("ConstantOfShape", ["shape"], ["c"])
    total = helper.make_node("ReduceMax", ["c"], ["m"], keepdims=0)
    return _model(_graph([made, total, helper.make_node("Add", ["x", "m"], ["y"])], shape))


def _huge_input() -> onnx.ModelProto:
    return _model(_graph([helper.make_node("Relu", ["x"], ["y"])], size=1 << 40))


def _deep_type() -> onnx.ModelProto:
    model = _model(_graph([helper.make_node("Relu", ["x"], ["y"])]))
    kind = model.graph.input[0].type
    for _ in range(40):
        outer = onnx.TypeProto()
        outer.sequence_type.elem_type.CopyFrom(kind)
        kind = outer
    model.graph.input[0].type.CopyFrom(kind)
    return model


def attempt(data: bytes, folder: Path, *, profile: bool = False) -> tuple[str, str]:
    """Split one file; return what happened and the message."""
    from onnx_pipeline.errors import PipelineError
    from onnx_pipeline.pipeline import split
    from onnx_pipeline.verification.checks import inspect

    path, output = folder / "m.onnx", folder / "out"
    path.write_bytes(data)
    kind = "profile" if profile else "analytic"
    verdict, message = "split", ""
    try:
        split(
            path, stages=3, output=output, cost_model=kind, profile_runs=1, time_limit=0.2, threads=1
        )  # fmt: skip
        found = inspect(output)
        if not found.ok and _is_valid(data):
            verdict, message = "broken output", "; ".join(found.problems)[:500]
    except PipelineError as error:
        verdict, message = "refused", str(error)
        if "\n" in message or not message:
            verdict = "not one line"
    except BaseException as error:
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        verdict, message = "traceback", f"{type(error).__name__} at {where}: {str(error)[:300]}"
    if verdict in ("refused", "traceback") and output.exists():
        verdict = "partial output"
    shutil.rmtree(output, ignore_errors=True)
    path.unlink()
    if list(folder.iterdir()):
        verdict, message = "left behind", str(sorted(p.name for p in folder.iterdir()))
        shutil.rmtree(folder)
        folder.mkdir()
    return verdict, message


def _is_valid(data: bytes) -> bool:
    """Whether the checker accepts the source; onnxruntime accepts more, and so does the splitter."""
    try:
        onnx.checker.check_model(data)
    except Exception:
        return False
    return True


def _work(chunk: Sequence[tuple[int, bytes]], profile: bool, pipe: Any) -> None:
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # native libraries grumble about such files
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        for index, data in chunk:
            start = time.monotonic()
            verdict, message = attempt(data, Path(name), profile=profile)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            pipe.send((index, verdict, message, time.monotonic() - start, peak))


def campaign(
    count: int, seed: int = 0, *, jobs: int = 1, profile: bool = False, keep: Path | None = None
) -> dict[str, Any]:
    """Run ``count`` files; return counts and every bad case."""
    for heavy in ("onnxruntime", "onnx_pipeline.costmodel.computed.analytic"):
        importlib.import_module(heavy)  # once, before forking
    random = np.random.default_rng(seed)
    originals = seeds()
    _warm_up(originals[0])
    verdicts: Counter[str] = Counter()
    bad: list[str] = []
    slowest, peak, done = 0.0, 0, 0
    context = multiprocessing.get_context("fork")
    waiting: list[list[tuple[int, bytes]]] = []
    live: dict[Any, dict[str, Any]] = {}

    def note(index: int, data: bytes, verdict: str, message: str) -> None:
        verdicts[verdict] += 1
        if verdict not in ("split", "refused"):
            bad.append(f"{index}: {verdict}: {message}")
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{index}.onnx").write_bytes(data)

    made = 0
    while made < count or waiting or live:
        while len(live) < jobs and (waiting or made < count):
            if not waiting:
                size = min(_CHUNK, count - made)
                waiting.append([(made + i, mutant(random, originals)) for i in range(size)])
                made += size
            chunk = waiting.pop()
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(chunk, profile, theirs))
            process.start()
            theirs.close()
            live[process] = {"chunk": chunk, "pipe": ours, "since": time.monotonic()}
        for process, state in list(live.items()):
            ended = not process.is_alive()
            while state["chunk"] and state["pipe"].poll(0.01):
                try:
                    index, verdict, message, seconds, memory = state["pipe"].recv()
                except EOFError:
                    break
                state["since"] = time.monotonic()
                _, data = state["chunk"].pop(0)
                slowest, peak, done = max(slowest, seconds), max(peak, memory), done + 1
                if memory > MEMORY_BYTES:
                    verdict = "too much memory"
                note(index, data, verdict, message)
                if done % 1000 == 0:
                    print(f"{done} files, {dict(verdicts)}", file=sys.stderr, flush=True)
            hung = time.monotonic() - state["since"] > SECONDS
            if state["chunk"] and (ended or hung):
                process.kill()
                process.join()
                index, data = state["chunk"].pop(0)
                note(index, data, "hang" if hung else "crash", f"exit code {process.exitcode}")
                done += 1
                if state["chunk"]:
                    waiting.append(state["chunk"])
                del live[process]
            elif ended:
                process.join()
                del live[process]
    return {
        "files": done,
        "seed": seed,
        "verdicts": dict(verdicts),
        "slowest_seconds": round(slowest, 2),
        "peak_memory_mib": peak >> 20,
        "bad": bad,
    }


def _warm_up(data: bytes) -> None:
    """Load compiled kernels once, so that forked workers have them."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        attempt(data, Path(name))


def main() -> int:
    """Run a campaign and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="also run the models")
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    options = parser.parse_args()
    start = time.monotonic()
    found = campaign(
        options.count, options.seed, jobs=options.jobs, profile=options.profile, keep=options.keep
    )
    found["seconds"] = round(time.monotonic() - start)
    print(json.dumps(found, indent=1))
    return 1 if found["bad"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
