"""The manifest of an output directory: types, reading with validation, writing.

Times are in seconds, sizes in bytes; the JSON Schema is published as
``onnx_pipeline/schemas/manifest.schema.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnx_pipeline.errors import InputError

FORMAT = "onnx-pipeline/manifest"
FORMAT_VERSION = 1
FILE_NAME = "manifest.json"
COSTS_NAME = "costs.json"
MEASURED_COSTS_NAME = "measured-costs.json"
ANNOTATED_NAME = "annotated.onnx"

Shape = tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Port:
    """A model input or output: name, numpy-style dtype (or an ONNX type text) and shape as declared."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class StageInput(Port):
    """A tensor that enters a stage; ``source`` is ``"model"`` or the index of the producing stage."""

    bytes: int
    source: str | int


@dataclass(frozen=True)
class StageOutput(Port):
    """A tensor that leaves a stage; each target is ``"model"`` or the index of a consuming stage."""

    bytes: int
    targets: tuple[str | int, ...]


@dataclass(frozen=True)
class DataFile:
    """External weights of a stage."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Stage:
    """One stage: its files, boundary, cost in seconds by component and the cost graph's nodes in it.

    ``measured`` has ``seconds``, their relative ``spread`` and the ``predicted_seconds`` of the costs.
    """

    index: int
    file: str
    sha256: str
    nodes: int
    inputs: tuple[StageInput, ...]
    outputs: tuple[StageOutput, ...]
    cost: Mapping[str, float]
    parameter_bytes: int
    node_names: tuple[str, ...] = ()
    data: DataFile | None = None
    peak_activation_bytes: int | None = None
    #: ``"file"`` where the peak holds for the order of the file only, and the memory may need it.
    execution_order: str | None = None
    measured: Mapping[str, float] | None = None
    #: Names of the model's ``defaults`` that it takes as inputs, where they are given.
    defaults: tuple[str, ...] = ()
    #: Execution providers to run it on, names and options; may be edited when a split is deployed.
    providers: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    #: Devices that take its requests in turn.
    replicas: int = 1
    #: Its device in ``target["fleet"]["devices"]``; several stages may share one.
    device: int | None = None
    #: Intra-op threads of its sessions; None for an even share of the cores.
    threads: int | None = None


@dataclass(frozen=True)
class ModelEntry:
    """The model that was split; ``defaults`` are the inputs that need not be given."""

    file: str
    sha256: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    defaults: tuple[Port, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """Contents and certificate of an output directory; field names are those of the JSON document."""

    tool: Mapping[str, str]
    model: ModelEntry
    target: Mapping[str, Any]
    cost_model: Mapping[str, Any]
    certificate: Mapping[str, Any]
    search: Mapping[str, Any]
    stages: tuple[Stage, ...]
    phases: Mapping[str, float] = field(default_factory=dict)
    #: What measuring the stages came to; ``corrected`` is a certificate of its own, in the corrected costs.
    measurement: Mapping[str, Any] | None = None
    #: Where weights are that no stage has a copy of: ``mode``, ``folder`` and ``files``.
    weights: Mapping[str, Any] | None = None
    #: What users demanded beyond what the model does: ``pins`` by node, ``together`` groups of nodes.
    constraints: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        """Return the verdict in one line."""
        from onnx_pipeline.brief import of_manifest

        return of_manifest(self)

    def _repr_html_(self) -> str:
        """Return the verdict and a bar for every stage, for notebooks."""
        from onnx_pipeline.cards import card

        return card(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document."""
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, **_plain(asdict(self))}
        for entry in (document, *document["stages"]):
            for key in (
                "data",
                "peak_activation_bytes",
                "execution_order",
                "measured",
                "measurement",
                "weights",
                "constraints",
                "device",
                "threads",
            ):
                if entry.get(key, 0) is None:
                    del entry[key]
        for entry in (document["model"], *document["stages"]):
            if not entry["defaults"]:
                del entry["defaults"]
        for stage in document["stages"]:
            if stage["providers"]:
                stage["providers"] = [{"name": name, "options": o} for name, o in stage["providers"]]
            else:
                del stage["providers"]
            if stage["replicas"] == 1:
                del stage["replicas"]
        return document

    @classmethod
    def from_json(cls, document: object, source: str | os.PathLike[str] | None = None) -> Manifest:
        """Validate a document against the schema and build the dataclasses.

        Raises
        ------
        InputError
            On the most relevant violation, with its place; ``source`` is the file named.
        """
        from onnx_pipeline.files.json import check_schema

        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise InputError(source, f'not a manifest ("format": "{FORMAT}")')
        if document.get("format_version") != FORMAT_VERSION:
            version = document.get("format_version")
            raise InputError(source, f"manifest version {version!r}; this program reads {FORMAT_VERSION}")
        check_schema(document, "manifest", source)
        model = document["model"]
        return cls(
            tool=document["tool"],
            model=ModelEntry(
                model["file"],
                model["sha256"],
                tuple(Port(**_port(p)) for p in model["inputs"]),
                tuple(Port(**_port(p)) for p in model["outputs"]),
                tuple(Port(**_port(p)) for p in model.get("defaults", ())),
            ),
            target=document["target"],
            cost_model=document["cost_model"],
            certificate=document["certificate"],
            search=document["search"],
            stages=tuple(_stage(entry) for entry in document["stages"]),
            phases=document.get("phases", {}),
            measurement=document.get("measurement"),
            weights=document.get("weights"),
            constraints=document.get("constraints"),
        )


def read(directory: str | os.PathLike[str]) -> Manifest:
    """Read and validate ``DIR/manifest.json``: whatever opens a split starts here.

    Raises
    ------
    InputError
        If the directory or its manifest is missing, malformed or contradicts itself.
    """
    from onnx_pipeline.consistency import contradictions

    document = read_alone(directory)
    for problem in contradictions(document):
        raise InputError(Path(directory) / FILE_NAME, problem)
    return document


def read_alone(directory: str | os.PathLike[str]) -> Manifest:
    """Read a manifest that may contradict itself, as verification does to list every contradiction.

    Raises
    ------
    InputError
        If the directory or its manifest is missing or malformed.
    """
    from onnx_pipeline.files.json import read_json
    from onnx_pipeline.files.kinds import refuse_other

    folder = Path(directory)
    refuse_other(folder, "split")
    if not folder.is_dir():
        raise InputError(folder, "no such directory" if not folder.exists() else "not a directory")
    path = folder / FILE_NAME
    if not path.is_file():
        raise InputError(folder, f"has no {FILE_NAME}: not the output of a split")
    return Manifest.from_json(read_json(path), path)


def file_names(manifest: Manifest) -> set[str]:
    """Return the names of all files that an output directory with this manifest may hold."""
    names = {FILE_NAME, COSTS_NAME, MEASURED_COSTS_NAME, ANNOTATED_NAME, f"{ANNOTATED_NAME}.data"}
    for stage in manifest.stages:
        names |= {stage.file} if stage.data is None else {stage.file, stage.data.file}
    if manifest.weights is not None and manifest.weights["mode"] == "link":
        names |= {entry["file"] for entry in manifest.weights["files"]}
    return names


def write(manifest: Manifest, directory: str | os.PathLike[str]) -> None:
    """Write ``DIR/manifest.json``."""
    text = json.dumps(manifest.to_json(), indent=1, allow_nan=False)
    (Path(directory) / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Turn tuples into the lists that JSON has."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return value


def _port(entry: Mapping[str, Any]) -> dict[str, Any]:
    shape = entry["shape"]
    return {
        "name": entry["name"],
        "dtype": entry["dtype"],
        "shape": None if shape is None else tuple(shape),
    }


def _stage(entry: Mapping[str, Any]) -> Stage:
    data = entry.get("data")
    return Stage(
        index=entry["index"],
        file=entry["file"],
        sha256=entry["sha256"],
        nodes=entry["nodes"],
        inputs=tuple(StageInput(**_port(p), bytes=p["bytes"], source=p["source"]) for p in entry["inputs"]),
        outputs=tuple(
            StageOutput(**_port(p), bytes=p["bytes"], targets=tuple(p["targets"])) for p in entry["outputs"]
        ),
        cost=entry["cost"],
        parameter_bytes=entry["parameter_bytes"],
        node_names=tuple(entry.get("node_names", ())),
        data=None if data is None else DataFile(data["file"], data["sha256"], data["bytes"]),
        peak_activation_bytes=entry.get("peak_activation_bytes"),
        execution_order=entry.get("execution_order"),
        measured=entry.get("measured"),
        defaults=tuple(entry.get("defaults", ())),
        providers=tuple((p["name"], p.get("options", {})) for p in entry.get("providers", ())),
        replicas=entry.get("replicas", 1),
        device=entry.get("device"),
        threads=entry.get("threads"),
    )
