"""Sessions of onnxruntime: the only place that makes them and sets their options."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_pipeline.errors import InputError, UsageError, did_you_mean
from onnx_pipeline.ort.errors import reason, too_new
from onnx_pipeline.ort.providers import CPU, Provider, check_providers, provider_name

if TYPE_CHECKING:
    import onnx

#: Says where the external weights of a model given as bytes are.
DATA_FOLDER_OPTION = "session.model_external_initializers_file_folder_path"
_SILENT = 4  # whatever goes wrong is raised, and told once


@dataclass(frozen=True)
class SessionSettings:
    """What differs between sessions; everything else is the same for all.

    Attributes
    ----------
    providers : sequence of str or (str, mapping)
        Execution providers, with options or without, in order of preference.
    threads : int
        Intra-op threads; 0 for one per core.
    optimise : bool
        All graph optimisations, or none.
    listed : bool
        Run the nodes in the order of the file.
    data_folder : Path, optional
        Folder of the external weights, where they are not beside the model's file.
    custom_ops : sequence of Path
        Libraries of custom operators.
    profile_prefix : Path, optional
        Record the kernels; the profile's name begins so.
    saved_model : Path, optional
        File for the optimised model.
    options : mapping or onnxruntime.SessionOptions, optional
        Attributes of the session options, and configuration entries (keys with a dot); they come last. An
        object is used as it is: of everything above, only the providers and the data folder still count.
    """

    providers: Sequence[str | Provider] = (CPU,)
    threads: int = 0
    optimise: bool = True
    listed: bool = False
    data_folder: Path | None = None
    custom_ops: Sequence[Path] = ()
    profile_prefix: Path | None = None
    saved_model: Path | None = None
    options: Any = None


def open_session(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    settings: SessionSettings | None = None,
    *,
    file: str | os.PathLike[str] | None = None,
    what: str = "the model",
) -> Any:
    """Load a model.

    Parameters
    ----------
    model : path-like, bytes or onnx.ModelProto
    settings : SessionSettings, optional
        By default onnxruntime's own, on the CPU.
    file : path-like, optional
        Named in errors; the model's path by default.
    what : str
        What errors call the model.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    InputError
        If onnxruntime cannot load the model or a library of custom operators, or runs the model on another
        provider than the first.
    UsageError
        If this onnxruntime has no such provider or option.
    """
    import onnxruntime

    settings = settings or SessionSettings()
    if file is None and isinstance(model, (str, os.PathLike)):
        file = model
    names = [provider_name(each) for each in settings.providers]
    check_providers(names)
    options = session_options(settings)
    loadable = _loadable(model, settings)
    try:
        session = onnxruntime.InferenceSession(loadable, options, providers=list(settings.providers))
    except Exception as error:  # onnxruntime's exceptions share no base but this one
        told = too_new(error) or f"onnxruntime cannot load {what}: {reason(error)}"
        raise InputError(file, told) from error
    used = session.get_providers()
    if names[0] not in used:
        raise InputError(file, f"{names[0]} could not be started; onnxruntime fell back to {used[0]}")
    return session


def session_options(settings: SessionSettings) -> Any:
    """Return onnxruntime's options for sessions with these settings.

    Raises
    ------
    UsageError
        If onnxruntime has no such option, or libraries are given for a SessionOptions object.
    InputError
        If a library of custom operators cannot be loaded.
    """
    import onnxruntime

    if settings.options is not None and not isinstance(settings.options, Mapping):
        if settings.custom_ops:
            raise UsageError("register custom operators with the SessionOptions object itself")
        _set_data_folder(settings.options, settings.data_folder)
        return settings.options
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = settings.threads
    if settings.threads != 1:
        # Sessions take turns here: one whose threads go on spinning after a run takes the cores of the next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
    options.inter_op_num_threads = 1
    if not settings.optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if settings.listed:
        # onnxruntime's default is depth first; by priority, equal here, it follows the file.
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    if settings.profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(settings.profile_prefix)
    if settings.saved_model is not None:
        options.optimized_model_filepath = str(settings.saved_model)
    _set_extra(options, settings.options or {})
    _set_data_folder(options, settings.data_folder)
    _register(options, settings.custom_ops)
    return options


def check_libraries(paths: Sequence[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """Return libraries of custom operators as absolute paths; loading one runs its code.

    Raises
    ------
    InputError
        If onnxruntime cannot load one.
    """
    libraries = tuple(Path(path).absolute() for path in paths)
    if libraries:
        session_options(SessionSettings(custom_ops=libraries))
    return libraries


def _loadable(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto, settings: SessionSettings
) -> str | bytes:
    if isinstance(model, bytes):
        return model
    if not isinstance(model, (str, os.PathLike)):
        return bytes(model.SerializeToString())
    if settings.data_folder is None:
        return os.fspath(model)
    # A path into another folder is refused in a file, but not as an option of the session.
    try:
        return Path(model).read_bytes()
    except OSError as error:
        raise InputError(model, error.strerror or str(error)) from error


def _set_extra(options: Any, extra: Mapping[str, Any]) -> None:
    for name, value in extra.items():
        if "." in name:
            options.add_session_config_entry(name, str(value))
        elif hasattr(options, name):
            try:
                setattr(options, name, value)
            except (TypeError, ValueError) as error:
                raise UsageError(f"onnxruntime does not take {value!r} for the option {name!r}") from error
        else:
            known = [each for each in dir(options) if not each.startswith("_")]
            raise UsageError(f"onnxruntime's SessionOptions have no {name!r}", did_you_mean(name, known))


def _set_data_folder(options: Any, folder: Path | None) -> None:
    if folder is None:
        return
    try:
        known = options.get_session_config_entry(DATA_FOLDER_OPTION)
    except RuntimeError:  # not set
        known = None
    if known != str(folder):  # onnxruntime warns of an entry that is there already
        options.add_session_config_entry(DATA_FOLDER_OPTION, str(folder))


def _register(options: Any, libraries: Sequence[Path]) -> None:
    for library in libraries:
        if not library.is_file():
            raise InputError(library, "no such custom-operator library")
        try:
            options.register_custom_ops_library(str(library))
        except Exception as error:
            message = f"onnxruntime cannot load custom operators from it: {reason(error)}"
            raise InputError(library, message) from None
