"""A few lines over ``onnx.helper``: name values, draw seeded weights, check the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
#: Old enough for every onnxruntime this project supports.
IR_VERSION = 8

Dim = int | str


class Net:
    """Collects the nodes and weights of one graph.

    Parameters
    ----------
    name : str
        Name of the graph.
    seed : int
        Seed of the weights: the same seed gives the same bytes.
    prefix : str
        Put before generated names, so that a subgraph does not reuse the names of its outer graph.
    """

    def __init__(self, name: str, seed: int = 0, prefix: str = "") -> None:
        self.name = name
        self.prefix = prefix
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._counts: dict[str, int] = {}

    def input(self, name: str, shape: Sequence[Dim], dtype: int = TensorProto.FLOAT) -> str:
        """Declare a graph input."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, shape: Sequence[Dim | None], dtype: int = TensorProto.FLOAT) -> str:
        """Declare a graph output."""
        self.outputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def constant(self, array: np.ndarray | np.generic, name: str = "") -> str:
        """Add an initializer with these values."""
        name = name or self._fresh("const")
        self.weights.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def weight(self, *shape: int, name: str = "", fan_in: int | None = None) -> str:
        """Add a float32 initializer, normal over ``sqrt(fan_in)``; the default is all dims but the first."""
        fan_in = fan_in or max(1, int(np.prod(shape[1:])))
        values = self.rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(fan_in**-0.5)
        return self.constant(values, name or self._fresh("weight"))

    def op(
        self, op_type: str, *inputs: str, name: str = "", out: str | Sequence[str] = "", **attrs: Any
    ) -> str:
        """Add a node; return its first output, called like the node unless ``out`` names the outputs."""
        name = name or self._fresh(op_type)
        outputs = [out] if isinstance(out, str) else list(out)
        outputs = [value or f"{name}_out" for value in outputs]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=name, **attrs))
        return outputs[0]

    def graph(self) -> onnx.GraphProto:
        """Return what was collected as a graph."""
        return helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.weights)

    def model(
        self,
        functions: Sequence[onnx.FunctionProto] = (),
        domains: Sequence[str] = (),
        opset: int = OPSET,
        *,
        check: bool = True,
    ) -> onnx.ModelProto:
        """Return the model, checked unless it is not finished."""
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(
            self.graph(),
            functions=functions,
            opset_imports=imports,
            ir_version=IR_VERSION,
            producer_name="onnx-pipeline models",
        )
        if check:
            onnx.checker.check_model(model)
        return model

    def _fresh(self, stem: str) -> str:
        count = self._counts[stem] = self._counts.get(stem, -1) + 1
        return f"{self.prefix}{stem}_{count}"
