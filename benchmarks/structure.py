"""Figures of the code's structure: how much is in each folder, what is long, what is tangled.

    python -m benchmarks.structure [ROOT]

Counts the packages ``onnx_pipeline``, ``costmodel`` and ``passes`` below ROOT (this checkout by default, or
another one to compare with) from their syntax alone. Lines of a function are those of its body without the
docstring; parameters leave out ``self`` and ``cls``. An import cycle is a strongly connected set of modules,
by imports that run, inside functions too, but not those for type checkers.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx

FOLDERS = ("onnx_pipeline", "costmodel", "passes")
LONG, MANY, LARGE = 50, 5, 300
DOORS = ("InferenceSession", "SessionOptions")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(root: Path) -> dict[str, Path]:
    """Return every module of the package with its file."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            if path.is_relative_to(root / "onnx_pipeline") and {"passes", "costmodel"} & set(
                path.parts[-3:-1]
            ):
                continue  # the links
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts if parts[0] == "onnx_pipeline" else ("onnx_pipeline", *parts))
            found[name.removesuffix(".__init__")] = path
    return found


def functions(tree: ast.Module) -> Iterator[Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: Function) -> int:
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def imports(tree: ast.Module, name: str, known: dict[str, Path]) -> set[str]:
    """Return the package's modules that a module imports when it runs."""
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    wanted: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            wanted |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names}
    # A package's __init__ collects the public names of its modules: no knot by itself.
    return {each for each in wanted if each in known and known[each].name != "__init__.py"} - {name}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root.resolve()
    known = modules(root)
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in known.items()}
    folders = Counter(
        str(path.parent.relative_to(root)) for path in known.values() if path.stem != "__init__"
    )
    print("modules per folder:", ", ".join(f"{folder} {n}" for folder, n in sorted(folders.items())))
    print(f"largest folder: {max(folders.values())} modules of {sum(folders.values())}")
    sizes = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in known.items()}
    print(f"modules above {LARGE} lines: {sum(size > LARGE for size in sizes.values())}")
    every = [(name, function) for name, tree in trees.items() for function in functions(tree)]
    long = [(name, f.name, body_lines(f)) for name, f in every if body_lines(f) > LONG]
    many = [(name, f.name, parameters(f)) for name, f in every if parameters(f) > MANY]
    print(f"functions: {len(every)}; above {LONG} lines: {len(long)}; above {MANY} parameters: {len(many)}")
    print("  longest:", ", ".join(f"{m}.{f} {n}" for m, f, n in sorted(long, key=lambda x: -x[2])[:5]))
    print("  widest:", ", ".join(f"{m}.{f} {n}" for m, f, n in sorted(many, key=lambda x: -x[2])[:5]))
    triple = [
        f
        for _, f in every
        if {"time_limit", "seed", "threads"} <= {a.arg for a in (*f.args.args, *f.args.kwonlyargs)}
    ]
    print(f"signatures with time_limit, seed and threads: {len(triple)}")
    doors = [
        (name, node.lineno)
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in DOORS
    ]
    print(
        f"places that build sessions or their options: {len(doors)} in {len({m for m, _ in doors})} modules"
    )
    graph = networkx.DiGraph()
    for name, tree in trees.items():
        if known[name].name != "__init__.py":
            graph.add_edges_from((name, other) for other in imports(tree, name, known))
    knots = [sorted(knot) for knot in networkx.strongly_connected_components(graph) if len(knot) > 1]
    print(f"import cycles: {len(knots)}", *(f"\n  {' <-> '.join(knot)}" for knot in knots))


if __name__ == "__main__":
    main()
