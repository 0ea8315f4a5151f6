"""CITATION.cff is valid, and says what pyproject.toml says."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parent.parent

PERSON = {
    "type": "object",
    "properties": {key: {"type": "string"} for key in ("family-names", "given-names", "name")},
    "anyOf": [{"required": ["name"]}, {"required": ["family-names", "given-names"]}],
    "additionalProperties": False,
}
#: The part of the format's schema 1.2.0 that the file uses: a misspelled key is an error there, too.
WORK = {
    "authors": {"type": "array", "minItems": 1, "items": PERSON},
    "title": {"type": "string"},
    "type": {"enum": ["software", "conference-paper"]},
    "abstract": {"type": "string"},
    "keywords": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    "license": {"type": "string"},
    "version": {"type": "string"},
    "url": {"type": "string", "pattern": "^https://"},
    "identifiers": {
        "type": "array",
        "items": {
            "required": ["type", "value"],
            "properties": {
                "type": {"enum": ["doi", "url", "other"]},
                "value": {"type": "string"},
                "description": {"type": "string"},
            },
            "additionalProperties": False,
        },
    },
}
ENTITY = {"required": ["name"], "properties": {"name": {"type": "string"}}, "additionalProperties": False}
REFERENCE = {
    "type": "object",
    "required": ["authors", "title", "type"],
    "properties": WORK
    | {
        "collection-title": {"type": "string"},
        "conference": ENTITY,
        "publisher": ENTITY,
        "year": {"type": "integer"},
        "volume": {"type": "integer"},
        "start": {"type": "integer"},
        "end": {"type": "integer"},
    },
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "required": ["cff-version", "message", "title", "authors"],
    "properties": WORK
    | {
        "cff-version": {"const": "1.2.0"},
        "message": {"type": "string"},
        "type": {"enum": ["software", "dataset"]},
        "references": {"type": "array", "items": REFERENCE, "minItems": 1},
    },
    "additionalProperties": False,
}


@pytest.fixture
def citation() -> dict[str, Any]:
    """The file, parsed."""
    yaml = pytest.importorskip("yaml")
    found: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return found


def test_the_citation_is_valid(citation: dict[str, Any]) -> None:
    """Keys and types are those of the Citation File Format 1.2.0."""
    jsonschema.validate(citation, SCHEMA)


def test_the_citation_is_of_this_release(citation: dict[str, Any]) -> None:
    """Name, version and licence are the project's, and the paper is the one that the code cites."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["title"].startswith(f"{project['name']}: ")
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    (paper,) = citation["references"]
    objective = (ROOT / "onnx_pipeline" / "graph" / "objective.py").read_text(encoding="utf-8")
    assert paper["title"] in objective
    assert [author["family-names"] for author in paper["authors"]] == ["Archer", "Fahrbach", "Liu", "Prabhu"]
    assert paper["identifiers"][0]["value"].endswith("arXiv.2311.03703")
