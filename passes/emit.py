"""Write the stages that a model is annotated with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import PassBase, PassResult

from onnx_pipeline.costmodel.devices import Device
from onnx_pipeline.emission.emit import emit
from onnx_pipeline.graph.target import Target
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.parameters import PathLike
from onnx_pipeline.passes import metadata
from onnx_pipeline.passes.origin import origin, with_digest
from onnx_pipeline.passes.partition import STAGE_REMEDY, annotated_infos, read_stages
from onnx_pipeline.progress import Progress, silent


def emit_stages(
    source: SourceModel,
    output: Path,
    *,
    target: Target | Device | PathLike | None = None,
    force: bool = False,
    annotate: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Write one model per annotated stage and the manifest into ``output``.

    A split is one model to k models and fits no PassResult, so this function is the step and
    :class:`EmitPass` its wrapper. The stage files do not carry the metadata.

    Parameters
    ----------
    source : SourceModel
        Its ``ir`` carries costs and stages.
    output : Path
        Directory to create.
    target : Target, Device, str, path-like or None
        Devices to evaluate the stages for; None for the annotated ones.
    force, annotate
        As in :func:`onnx_pipeline.split`.

    Raises
    ------
    PreconditionError
        If costs or stages are missing, or the stages are not a partition.
    UsageError
        If ``output`` exists and ``force`` is not given.
    InputError
        If it cannot be written, or weights cannot be read.
    """
    infos = annotated_infos(source)
    result = read_stages(source, infos, target)
    clean = source.ir.clone()
    metadata.clear(clean)
    clean_source = with_digest(replace(source, ir=clean))
    return emit(
        clean_source,
        infos,
        result,
        result.graph.meta,
        output,
        force=force,
        annotate=annotate,
        progress=progress,
    )


@dataclass(eq=False)
class EmitPass(PassBase):
    """:func:`emit_stages` as a pass with a side effect only: the model comes back untouched.

    Attributes
    ----------
    manifest : Manifest or None
        What the last call wrote.
    """

    source: SourceModel | None = None
    output: str | Path = "out"
    target: Target | Device | PathLike | None = None
    force: bool = False
    annotate: bool = False
    manifest: Manifest | None = field(default=None, init=False)

    @property
    def in_place(self) -> bool:
        """The model that comes back is the one that came in."""
        return True

    @property
    def changes_input(self) -> bool:
        """Nothing in the model changes."""
        return False

    def requires(self, model: ir.Model) -> None:
        """Demand work and a stage on every executable node; :func:`emit_stages` checks the rest."""
        metadata.require_names(model)
        nodes = executable_nodes(origin(model, self.source))
        metadata.read_costs(model, nodes)
        metadata.read_integers(nodes, metadata.STAGE, STAGE_REMEDY)

    def call(self, model: ir.Model) -> PassResult:
        """Write the directory."""
        self.manifest = emit_stages(
            origin(model, self.source),
            Path(self.output),
            target=self.target,
            force=self.force,
            annotate=self.annotate,
        )
        return PassResult(model, modified=False)
