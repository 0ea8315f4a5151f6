"""What identifies a model that did not come from a file: the same in whichever form it is given."""

from __future__ import annotations

import hashlib

import onnx_ir as ir

from onnx_pipeline.model.protos import describe, shell
from onnx_pipeline.model.sliced import SlicedTensor


def content_digest(model: ir.Model) -> str:
    """Return the SHA-256 of a model's content, tensor by tensor: nothing is gathered in memory.

    Like that of a file, it covers where external data lies, not the data.
    """
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    graph = model.graph
    add(shell(model).SerializeToString(deterministic=True))
    for value in (*graph.inputs, *graph.outputs):
        add(describe(value).SerializeToString(deterministic=True))
    for node in graph:
        add(ir.to_proto(node).SerializeToString(deterministic=True))
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None:
            continue
        add(f"{name} {tensor.dtype.name} {list(tensor.shape.numpy())}".encode())
        if isinstance(tensor, ir.ExternalTensor):
            add(f"{tensor.location} {tensor.offset or 0}".encode())
        elif isinstance(tensor, ir.StringTensor):
            for text in tensor.string_data():
                add(text)
        elif isinstance(tensor, SlicedTensor) and tensor.file is not None:
            add(tensor.place.encode())
        else:
            add(tensor.tobytes())
    return digest.hexdigest()
