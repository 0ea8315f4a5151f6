"""``onnx_pipeline.partition`` is a function to its callers and a package to its importers."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pydoc
from functools import partial

import onnx_pipeline as op
import onnx_pipeline.partition.result as by_path
from onnx_pipeline.partition import certificate
from onnx_pipeline.partition.portfolio import partition
from tests.test_planned import two_branches


def test_it_documents_itself_as_the_function() -> None:
    """Signature and help are the function's, not those of ``*args`` or of a list of modules."""
    assert inspect.signature(op.partition) == inspect.signature(partition)
    shown = pydoc.render_doc(op.partition, renderer=pydoc.plaintext)
    begin = "onnx_pipeline.partition - Partition a cost graph into pipeline stages and certify the result."
    assert begin in shown
    assert "partition(graph: CostGraph, stages: int, target: Target | Device" in shown
    assert shown.index("time_limit : float") < shown.index("PACKAGE CONTENTS")


def test_it_travels_like_the_function() -> None:
    """To worker processes, alone and inside a partial."""
    assert pickle.loads(pickle.dumps(op.partition)) is op.partition
    ready = pickle.loads(pickle.dumps(partial(op.partition, stages=2)))
    assert ready(two_branches()).stages == 2


def test_it_is_imported_like_a_package() -> None:
    """In every way that imports can be written."""
    package = importlib.import_module("onnx_pipeline.partition")
    assert package is op.partition
    assert package.result is by_path
    assert package.certificate is certificate
    assert package.portfolio.partition is partition
