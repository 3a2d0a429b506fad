"""Which backend runs a model, and what its files and its config.pbtxt say against measuring it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.plan.digest import special_kind
from hpcbench.plan.model import TritonModel, path_kind

_BACKEND_OF_FILE = {
    ".onnx": "onnxruntime",
    ".xml": "openvino",
    ".pt": "pytorch",
    ".pt2": "pytorch",
    ".plan": "tensorrt",
    ".graphdef": "tensorflow",
    ".savedmodel": "tensorflow",
    ".py": "python",
}


def backend_name(model: TritonModel) -> str | None:
    """Return Triton's name for the backend that runs a model.

    Parameters
    ----------
    model
        The model.

    Returns
    -------
    str or None
        As config.pbtxt says it, or the model's file shows it; "ensemble" for an ensemble; None
        where neither is known.
    """
    config = ModelConfig.FromString(model.config)
    if config.HasField("ensemble_scheduling") or config.platform == "ensemble":
        return "ensemble"
    # The older field names backend and format, as in onnxruntime_onnx.
    backend = config.backend or config.platform.split("_")[0]
    if not backend:
        files = sorted(model.folder.glob("[0-9]*/model.*"))
        known = (_BACKEND_OF_FILE[f.suffix] for f in files if f.suffix in _BACKEND_OF_FILE)
        backend = next(known, "")
    return backend or None


_MODEL_FILES = {
    "onnxruntime": ("model.onnx",),
    "pytorch": ("model.pt", "model.pt2", "model.py"),
    "tensorrt": ("model.plan",),
    "tensorflow": ("model.graphdef", "model.savedmodel"),
    "python": ("model.py", "model.pyc"),
}
"""What these backends read from a version folder unless config.pbtxt names a file."""


def unservable_reasons(
    model: TritonModel, asked: Iterable[int | None], streaming: Iterable[bool]
) -> Iterator[str]:
    """Yield why hpcbench cannot measure a model, whatever the other axes are.

    Parameters
    ----------
    model
        The model.
    asked
        The versions that the campaign chooses; None for those of the version policy.
    streaming
        The values of the axis ``streaming``.

    Yields
    ------
    str
        A sentence.
    """
    members = [(each, ModelConfig.FromString(each.config)) for each in (model, *model.composing)]
    for each, config in members:
        of = "the model" if each is model else f"'{each.name}', which it calls,"
        versions = asked if each is model else (None,)
        yield from _missing_files(each, config, versions)
        if each.name in model.needs:
            continue  # only the model calls it, and knows how
        if config.HasField("sequence_batching"):
            # The requests of a sequence follow each other. Windows, intervals and an open loop
            # take them for requests that come one by one.
            yield (
                f"{of} has sequence_batching: hpcbench does not measure models that keep a state "
                "between requests; remove it from the campaign"
            )
        if config.model_transaction_policy.decoupled and False in streaming:
            yield (
                f"measurement.streaming: {of} is decoupled (model_transaction_policy in its "
                "config.pbtxt) and answers through a stream only; set streaming: true"
            )


def _missing_files(
    model: TritonModel, config: ModelConfig, asked: Iterable[int | None]
) -> Iterator[str]:
    backend = backend_name(model)
    # Only of these hpcbench knows what they read. Triton takes a backend of that name for "x.name".
    known = backend in _MODEL_FILES or (backend is None and "." not in model.name)
    if not known or config.cc_model_filenames:
        return
    own = config.default_model_filename
    if backend is None and own and own not in _FOUND_BY_TRITON:
        yield (
            f"config.pbtxt names the file {own} and no backend, which Triton finds by "
            f"{', '.join(_FOUND_BY_TRITON)} only; add backend"
        )
        return
    names = (own,) if own else _MODEL_FILES.get(backend or "", _FOUND_BY_TRITON)
    wanted = {version for each in asked for version in _served(model, config, each)}
    for version in sorted(wanted):
        folder = model.folder / str(version)
        # A folder may be called 001, as Triton allows.
        if not folder.is_dir():
            continue
        there = next((folder / name for name in names if (folder / name).exists()), None)
        if there is not None:
            if kind := special_kind(there):
                yield f"version {version}: {there} is {kind}; Triton needs a file, and would wait"
            elif _is_lfs_pointer(there):
                yield (
                    f"version {version}: {there} only points to a file in Git LFS; get it with "
                    "git lfs pull"
                )
            continue
        if dead := next((folder / name for name in names if (folder / name).is_symlink()), None):
            yield f"version {version}: {dead} is {path_kind(dead)}"
            continue
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        reader = f"the {backend} backend reads {' or '.join(names)}"
        if backend is None:
            reader = (
                f"Triton finds the backend by one of {', '.join(_FOUND_BY_TRITON)}, or in "
                "config.pbtxt (backend)"
            )
        yield f"version {version} has no model file: {folder} holds {found}; {reader}"


def _is_lfs_pointer(file: Path) -> bool:
    """Whether a clone without Git LFS left its text in the place of a file."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(_LFS)) == _LFS


_LFS = b"version https://git-lfs.github.com/spec/"

_FOUND_BY_TRITON = tuple(f"model{suffix}" for suffix in _BACKEND_OF_FILE)
"""The files by which Triton completes a configuration without a backend."""


def _served(model: TritonModel, config: ModelConfig, asked: int | None) -> Iterable[int]:
    """Return the versions that Triton loads. It does not start if one of them fails."""
    policy = config.version_policy
    if asked is not None:
        return (asked,)
    if policy.HasField("all"):
        return model.versions
    if policy.HasField("specific"):
        return tuple(policy.specific.versions)
    newest = policy.latest.num_versions or 1
    return sorted(model.versions)[-newest:]
