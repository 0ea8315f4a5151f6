"""Models in slices, for callers: names and numbers of parts in, a model out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_pipeline.errors import UsageError
from onnx_pipeline.parameters import Feeds, ModelLike, PathLike
from onnx_pipeline.progress import ProgressLike, shows_progress, silent

if TYPE_CHECKING:
    import onnx_ir


@shows_progress()
def slice_model(
    model: ModelLike,
    parts: Mapping[str, int],
    *,
    dims: Mapping[str, int] | None = None,
    inputs: PathLike | Feeds | None = None,
    custom_ops: Sequence[PathLike] = (),
    progress: ProgressLike = silent,
) -> onnx_ir.Model:
    """Return the model with heavy nodes in slices, so that different stages can share their work.

    A MatMul, Gemm or Conv ``X`` with constant weights becomes ``X/slice_0``, ``X/slice_1`` and so on, each
    with some of the columns or channels, and ``X/concat``. Bias and activation follow the slices. Weights are
    not read: parts of external data stay where they are until a stage file is written.

    Parameters
    ----------
    model : path-like, onnx.ModelProto or onnx_ir.Model
        It stays as it is.
    parts : mapping of str to int
        Names of nodes, and into how many parts; 1 leaves a node as it is.
    dims : mapping of str to int, optional
        Values of symbolic dimensions, where shapes can only be found by a run.
    inputs : path-like or mapping of str to array, optional
        Inputs for such a run.
    custom_ops : sequence of path-like
        Libraries of custom operators.
    progress : Progress
        Is told notes.

    Returns
    -------
    onnx_ir.Model
        For :func:`onnx_pipeline.split` and everything else that takes a model.

    Raises
    ------
    UsageError
        If there is no such node, it cannot be sliced, or not into so many parts.
    InputError
        If the model cannot be used.
    """
    from onnx_pipeline.model.source import load
    from onnx_pipeline.price import bind, shapes
    from onnx_pipeline.slices.rewrite import rewrite
    from onnx_pipeline.slices.which import sliceable

    source = load(model, custom_ops)
    chosen, feeds = bind(source, dims, inputs, silent)
    infos, _ = shapes(source, chosen, feeds)
    for name, number in parts.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UsageError(f"node {name!r} cannot be sliced in {number!r}: give a whole number, 1 or more")
    found = [(sliceable(source, infos, name), number) for name, number in parts.items() if number > 1]
    rewrite(source, infos, found)
    return source.ir
