"""Which tensors each stage reads and writes, and how long each of them lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from onnx_pipeline.manifest import Manifest, Shape

#: The producer of model inputs.
HOST = -1


@dataclass(frozen=True)
class Wiring:
    """The boundaries of k stages; a tensor's name is unique among them.

    Attributes
    ----------
    files : tuple of str
    inputs, outputs : tuple of tuple of str
        Per stage, in the order of the stage file.
    defaults : tuple of tuple of str
        Per stage, inputs that it takes where they are fed.
    fed : tuple of str
        Model inputs, those with a default value last.
    results : tuple of str
        Model outputs.
    dtypes : mapping of str to str
        Element types of the model outputs, as the manifest writes them.
    fixed : tuple of bool
        Per stage, whether the shapes of all its outputs are known.
    """

    files: tuple[str, ...]
    inputs: tuple[tuple[str, ...], ...]
    outputs: tuple[tuple[str, ...], ...]
    defaults: tuple[tuple[str, ...], ...]
    fed: tuple[str, ...]
    results: tuple[str, ...]
    dtypes: Mapping[str, str]
    fixed: tuple[bool, ...]

    @classmethod
    def of(cls, document: Manifest) -> Wiring:
        """Read the boundaries from a manifest."""
        return cls(
            tuple(stage.file for stage in document.stages),
            tuple(tuple(port.name for port in stage.inputs) for stage in document.stages),
            tuple(tuple(port.name for port in stage.outputs) for stage in document.stages),
            tuple(stage.defaults for stage in document.stages),
            tuple(port.name for port in (*document.model.inputs, *document.model.defaults)),
            tuple(port.name for port in document.model.outputs),
            {port.name: port.dtype for port in document.model.outputs},
            tuple(all(_is_fixed(port.shape) for port in stage.outputs) for stage in document.stages),
        )

    @property
    def stages(self) -> int:
        """Number of stages k."""
        return len(self.files)

    def reads(self, stage: int) -> tuple[str, ...]:
        """Return everything that a stage may be handed."""
        return (*self.inputs[stage], *self.defaults[stage])

    @cached_property
    def last_reader(self) -> Mapping[str, int]:
        """The last stage that reads a tensor, k for the caller; unread tensors are absent.

        A model input that is a model output too never enters a stage for the caller's sake.
        """
        last = {name: stage for stage in range(self.stages) for name in self.reads(stage)}
        produced = {name for names in self.outputs for name in names}
        last.update((name, self.stages) for name in self.results if name in produced)
        return last

    @cached_property
    def released(self) -> tuple[tuple[str, ...], ...]:
        """Per stage, the tensors that are not needed after it, its unread outputs included."""
        done: list[list[str]] = [[] for _ in range(self.stages)]
        for name, stage in self.last_reader.items():
            if stage < self.stages:
                done[stage].append(name)
        for stage, names in enumerate(self.outputs):
            done[stage] += [name for name in names if name not in self.last_reader]
        return tuple(tuple(names) for names in done)

    @cached_property
    def rings(self) -> Mapping[tuple[int, int], tuple[str, ...]]:
        """Tensors by producer (:data:`HOST` for model inputs) and last reader: they live equally long."""
        groups: dict[tuple[int, int], list[str]] = {}
        for producer, names in ((HOST, self.fed), *enumerate(self.outputs)):
            for name in names:
                if name in self.last_reader:
                    groups.setdefault((producer, self.last_reader[name]), []).append(name)
        return {key: tuple(names) for key, names in groups.items()}


def _is_fixed(shape: Shape) -> bool:
    return shape is not None and all(isinstance(size, int) and size > 0 for size in shape)
