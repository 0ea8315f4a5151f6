"""From a model to the work of its nodes on every kind of device of a fleet.

Of each kind, in this order: what its file of costs says; measured or computed where its entry asks for that;
the costs of the model divided by its speed; computed for its device where costs are computed; measured where
its provider is here, or it is a CPU; else the costs of the model times what is computed for its device over
what is computed for the one that was measured. Kinds with the same provider and threads share a profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_pipeline.costmodel.kinds import KindCosts, price_kinds
from onnx_pipeline.figures import format_count
from onnx_pipeline.ort.providers import CPU
from onnx_pipeline.parameters import ModelLike, ProfileParams
from onnx_pipeline.price import Priced, price
from onnx_pipeline.progress import Phases, Progress, silent

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.fleets import DeviceKind, Fleet
    from onnx_pipeline.costmodel.request import NodeCosts
    from onnx_pipeline.graph.costgraph import CostGraph

#: What a session is made with, as far as it decides on times.
Session = tuple[str, tuple[tuple[str, str], ...], int]


def price_fleet(
    model: ModelLike,
    fleet: Fleet,
    params: ProfileParams,
    progress: Progress = silent,
    phases: Phases | None = None,
) -> tuple[Priced, CostGraph]:
    """Load a model and price its nodes on every kind of device.

    Parameters
    ----------
    model : path-like, onnx.ModelProto or onnx_ir.Model
    fleet : Fleet
    params : ProfileParams
        The costs of the model, which those of kinds may follow from.
    progress : Progress
        Is told where times are only guessed.
    phases : Phases, optional
        Takes the seconds of ``load``, ``shapes``, ``profile`` and ``lower``.

    Returns
    -------
    Priced
        The model with its own costs.
    CostGraph
        With ``work_on`` for every kind.

    Raises
    ------
    UsageError, InputError
        As :func:`onnx_pipeline.price.price`, and if a kind's costs cannot be found out.
    InfeasibleError
        If no kind can run some node.
    """
    phases = Phases() if phases is None else phases
    priced = price(model, _measured_first(fleet, params), progress, phases)
    with phases.measure("profile", progress):
        pricing = _Pricing(priced, progress)
        found = {kind.name: costs for kind in fleet.kinds if (costs := pricing.of(kind)) is not None}
    with phases.measure("lower", progress):
        return priced, price_kinds(priced.graph, fleet, found, progress)


def _measured_first(fleet: Fleet, params: ProfileParams) -> ProfileParams:
    """Return parameters that measure what the first kind needs, where no kind needs what they would."""
    sessions = [_session(kind, params) for kind in fleet.kinds if not kind.provider_options]
    if params.cost_model != "profile" or not sessions or len(sessions) < len(fleet.kinds):
        return params
    own = params.provider, (), params.intra_op_threads
    needed = own in sessions or any(not _here(kind) or kind.speed or kind.costs for kind in fleet.kinds)
    return params if needed else replace(params, provider=sessions[0][0], intra_op_threads=sessions[0][2])


@dataclass
class _Pricing:
    """The kinds of a fleet, one after the other; profiles are kept by session."""

    priced: Priced
    progress: Progress
    profiles: dict[Session, NodeCosts] = field(default_factory=dict)

    def of(self, kind: DeviceKind) -> KindCosts | None:
        """Return the costs of a kind; None where they follow from the graph alone."""
        if kind.costs == "profile":
            return self._profile(kind)
        if kind.costs == "analytic":
            return self._computed(kind)
        if kind.costs is not None:
            return self._file(kind, kind.costs)
        if kind.speed is not None:
            return None
        costs = self.priced.costs
        if costs.kind == "analytic":
            return self._computed(kind)
        if costs.kind == "profile":
            return self._profile(kind) if _here(kind) else self._estimate(kind)
        return self._stored(kind)

    def _profile(self, kind: DeviceKind) -> KindCosts:
        from onnx_pipeline.costmodel import cost_model
        from onnx_pipeline.ort.providers import check_providers

        params, costs = self.priced.params, self.priced.costs
        if costs.kind == "profile":
            self.profiles.setdefault((params.provider, (), params.intra_op_threads), costs)
        session = provider, _, threads = _session(kind, params)
        check_providers([provider])
        if session not in self.profiles:
            request = replace(
                self.priced.request,
                device=kind.figures,
                provider=provider,
                provider_options=kind.provider_options,
                threads=threads,
            )
            self.progress("profile", None, kind.name)
            self.profiles[session] = cost_model("profile")(request)
        found = self.profiles[session]
        origin = f"profiled on {provider} with {format_count(threads, 'thread')}"
        return KindCosts(found.work_ns, origin, found.unsupported)

    def _computed(self, kind: DeviceKind) -> KindCosts:
        return KindCosts(self._analytic(kind.figures), f"computed for {kind.figures.name}")

    def _file(self, kind: DeviceKind, file: str) -> KindCosts:
        from onnx_pipeline.costmodel import cost_model

        costs = cost_model(file)(replace(self.priced.request, device=kind.figures))
        return KindCosts(costs.work_ns, f"from {Path(file).name}", costs.unsupported)

    def _estimate(self, kind: DeviceKind) -> KindCosts | None:
        """Scale what was measured by what is computed for the kind, where its device has rates of its own."""
        from onnx_pipeline.costmodel.devices import Device, load_device

        if kind.figures.peak_flops == Device("").peak_flops:
            return None
        params, here = self.priced.params, ""
        measured = load_device("cpu" if params.provider == CPU else params.device or "cpu")
        if kind.provider is not None and not _available(kind.provider):
            here = f"{kind.provider} is not here; "
        how = f"times measured on {measured.name}, scaled by what is computed for {kind.figures.name}"
        self.progress("note", None, f"{kind.name}: {here}{how}")
        own, base = self._analytic(kind.figures), self._analytic(measured)
        work = {
            name: time * (own[name] / base[name] if base[name] else 1.0)
            for name, time in self.priced.costs.work_ns.items()
        }
        return KindCosts(work, how)

    def _stored(self, kind: DeviceKind) -> KindCosts | None:
        """Return what COSTS.json has of a kind, where the costs of the model are from such a file."""
        from onnx_pipeline.costmodel.kinds import stored_costs

        file = self.priced.params.cost_model
        return stored_costs(Path(file), kind.name) if isinstance(file, str) else None

    def _analytic(self, device: Any) -> Mapping[str, float]:
        from onnx_pipeline.costmodel import cost_model

        return cost_model("analytic")(replace(self.priced.request, device=device)).work_ns


def _session(kind: DeviceKind, params: ProfileParams) -> Session:
    options = tuple(sorted((name, str(value)) for name, value in kind.provider_options.items()))
    return kind.provider or params.provider, options, kind.threads or params.intra_op_threads


def _here(kind: DeviceKind) -> bool:
    """Whether a kind can be measured: by its provider, or because it is a CPU like that of this machine."""
    from onnx_pipeline.costmodel.devices import measured_elsewhere

    if kind.provider is not None:
        return _available(kind.provider)
    return measured_elsewhere({"cost_model": "profile", "provider": CPU}, kind.figures) is None


def _available(provider: str) -> bool:
    import onnxruntime

    return provider in onnxruntime.get_available_providers()
