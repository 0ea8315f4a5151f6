"""What is shipped, what importing it costs, and what the public surface is."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest

import onnx_pipeline
import onnx_pipeline.passes

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def packages_in_tree() -> set[str]:
    """Every folder below ``onnx_pipeline`` that holds a module, links followed."""
    found = set()
    for folder, children, files in os.walk(ROOT / "onnx_pipeline", followlinks=True):
        children[:] = [name for name in children if name != "__pycache__"]
        if any(name.endswith(".py") for name in files):
            found.add(".".join(Path(folder).relative_to(ROOT).parts))
    return found


def modules_in_tree() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name, parsed."""
    return {
        f"{package}.{file.stem}".removesuffix(".__init__"): ast.parse(file.read_text(encoding="utf-8"))
        for package in packages_in_tree()
        for file in (ROOT / package.replace(".", "/")).glob("*.py")
    }


def imports(tree: ast.AST) -> set[str]:
    """Dotted names that a module imports, anywhere but for type checkers only."""
    found: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        waiting += ast.iter_child_nodes(node)
    return found


def loaded_after(statement: str) -> set[str]:
    """Top-level modules in ``sys.modules`` of a fresh process after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_package_list_equals_the_tree() -> None:
    """A package missing from pyproject.toml would be missing from the wheel."""
    assert set(SETUPTOOLS["packages"]) == packages_in_tree()


def test_every_package_has_an_init() -> None:
    """No namespace package by accident."""
    for package in packages_in_tree():
        assert (ROOT / package.replace(".", "/") / "__init__.py").is_file(), package


def test_links_are_relative_and_match_the_mapping() -> None:
    """Each folder mapped in from the top level is also a relative link, so tools that read files see it."""
    for package, folder in SETUPTOOLS["package-dir"].items():
        link = ROOT / package.replace(".", "/")
        assert link.is_symlink()
        assert os.readlink(link) == f"../{folder}"
        assert link.resolve() == ROOT / folder


def test_package_data_exists() -> None:
    """Every pattern of package data matches a file, flat in its package."""
    for package, patterns in SETUPTOOLS["package-data"].items():
        for pattern in patterns:
            assert list((ROOT / package.replace(".", "/")).glob(pattern)), f"{package}: {pattern}"
    assert "py.typed" in SETUPTOOLS["package-data"]["onnx_pipeline"]


def test_every_dependency_has_a_lower_bound() -> None:
    """Extras included."""
    project = PROJECT["project"]
    requirements = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    for requirement in requirements:
        assert re.search(r">=\s*\d", requirement), requirement


def test_every_third_party_import_is_declared() -> None:
    """The package imports only what pyproject.toml asks for, and asks only for what is imported."""
    own = {"onnx_pipeline"}
    declared = {
        re.split(r"[<>=\[]", spec)[0].replace("-", "_") for spec in PROJECT["project"]["dependencies"]
    }
    imported: set[str] = set()
    for tree in modules_in_tree().values():
        imported |= {name.partition(".")[0] for name in imports(tree)}
    third_party = imported - own - set(sys.stdlib_module_names)
    # protobuf is imported as google.protobuf, or used only through the messages of onnx.
    # What draws timelines and reports is imported for those who have the extras; notebooks have IPython.
    extras = {"matplotlib", "jinja2", "pygraphviz", "vl_convert", "IPython"}
    assert third_party - {"google"} - extras == declared - {"protobuf"}


def test_no_module_imports_itself_in_a_circle() -> None:
    """Imports inside functions count, those for type checkers only and those of ``__init__`` files do not."""
    modules = modules_in_tree()
    packages = packages_in_tree()
    graph = {
        name: (imports(tree) & modules.keys()) - packages
        for name, tree in modules.items()
        if name not in packages
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_one_door_to_onnxruntime() -> None:
    """Only ``onnx_pipeline.ort`` makes sessions and their options."""
    files = {
        name: tree for name, tree in modules_in_tree().items() if not name.startswith("onnx_pipeline.ort")
    }
    for folder in ("models", "benchmarks"):
        files |= {str(f): ast.parse(f.read_text(encoding="utf-8")) for f in (ROOT / folder).glob("*.py")}
    makers = {"InferenceSession", "SessionOptions"}
    for name, tree in files.items():
        for node in ast.walk(tree):
            called = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
            assert called not in makers, f"{name}:{getattr(node, 'lineno', 0)}"


def test_partition_imports_no_onnx() -> None:
    """The algorithms stand alone: a cost graph needs no ONNX library."""
    loaded = loaded_after(
        "import onnx_pipeline.partition, pkgutil, importlib\n"
        "for module in pkgutil.walk_packages(onnx_pipeline.partition.__path__, 'onnx_pipeline.partition.'):\n"
        "    importlib.import_module(module.name)"
    )
    assert not loaded & {"onnx", "onnx_ir", "onnxruntime"}


def test_import_is_light() -> None:
    """``import onnx_pipeline`` loads no heavy library; neither does the command line's module."""
    heavy = {"onnx", "onnx_ir", "onnxruntime", "ortools", "numba", "scipy", "networkx", "pandas", "rich"}
    heavy |= {"jinja2", "pygraphviz", "vl_convert"}
    assert not loaded_after("import onnx_pipeline") & heavy
    assert not loaded_after("import onnx_pipeline.cli.entry") & heavy


#: What callers outside the repository may rely on; removing or renaming a name breaks them.
PUBLIC = {
    "__version__",
    "Bound",
    "CostGraph",
    "CostModel",
    "CostRequest",
    "Crossing",
    "Demands",
    "Device",
    "DeviceKind",
    "Fleet",
    "FleetResult",
    "load_fleet",
    "Exploration",
    "GraphBuilder",
    "InfeasibleError",
    "InputError",
    "Manifest",
    "MeasureParams",
    "NodeCosts",
    "OutputParams",
    "PartitionResult",
    "PipelineError",
    "PipelineSession",
    "Placement",
    "ProfileParams",
    "ReplicaPlan",
    "ReplicaTable",
    "SearchParams",
    "Simulation",
    "StageCost",
    "StageError",
    "Target",
    "TargetParams",
    "UsageError",
    "VerificationError",
    "VerifyReport",
    "bench",
    "cuts",
    "emit",
    "evaluate",
    "explore",
    "load_device",
    "partition",
    "place",
    "plan",
    "profile",
    "read_graph",
    "read_plan",
    "replicate",
    "report",
    "simulate",
    "split",
    "stage_costs",
    "verify",
    "write_graph",
    "SlicePlan",
    "plan_slices",
    "slice_model",
}


def test_public_surface() -> None:
    """A snapshot: adding a name is a decision, losing one breaks callers; every name can be imported."""
    assert set(onnx_pipeline.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(onnx_pipeline, name) is not None
    assert set(onnx_pipeline.__all__) <= set(dir(onnx_pipeline))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = onnx_pipeline.nonsense


def test_public_surface_of_passes() -> None:
    """The same for ``onnx_pipeline.passes``."""
    names = {"EmitPass", "PartitionPass", "ProfilePass", "annotate_costs", "annotate_stages", "emit_stages"}
    assert set(onnx_pipeline.passes.__all__) == names | {"load_pass", "pass_names"}
    for name in onnx_pipeline.passes.__all__:
        assert callable(getattr(onnx_pipeline.passes, name))


def test_importing_passes_loads_no_runtime() -> None:
    """The passes need onnx_ir; measuring and solving come in when a pass runs."""
    loaded = loaded_after("import onnx_pipeline.passes.registry")
    assert not loaded & {"onnx", "onnx_ir", "onnxruntime", "ortools", "numba"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built in a copy of it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("onnx_pipeline", *SETUPTOOLS["package-dir"].values()):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    command += ["--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return next(folder.glob("*.whl"))


def test_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    """Each module of the tree, ``py.typed``, the schema, the device list and the licence are in the wheel."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in packages_in_tree():
        folder = package.replace(".", "/")
        wanted = [p.name for p in (ROOT / folder).iterdir() if p.suffix in {".py", ".json", ".typed"}]
        assert {f"{folder}/{name}" for name in wanted} <= names
    assert "onnx_pipeline/py.typed" in names
    assert "onnx_pipeline/costmodel/devices.toml" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "models", "benchmarks"))]
    assert not [name for name in names if name.endswith("ruff.toml")]  # for checkouts only
