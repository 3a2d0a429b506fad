"""A first campaign file for the models of a repository: what can be known is filled in."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hpcbench.config.load_axes import Load, Measurement
from hpcbench.config.model import Model
from hpcbench.config.server_axes import Server
from hpcbench.errors import BadInput, printable
from hpcbench.plan.model import TritonModel, read_model
from hpcbench.plan.model_limits import model_problems

BATCH_SIZES = (1, 4, 16, 64)
LENGTH = 16
"""What stands for a -1 in the dims of an input."""


@dataclass(frozen=True)
class _Entry:
    """A model with what the file says of it."""

    name: str
    model: TritonModel
    shapes: dict[str, list[int]]
    batch_sizes: tuple[int, ...]


def first_campaign(repository: Path, folder: Path) -> str:
    """Return a campaign file that scans each model of a repository.

    Parameters
    ----------
    repository
        A folder of model folders, as Triton has it.
    folder
        Where the file will be: the path of the models is relative to that where it is shorter so.

    Returns
    -------
    str
        YAML. Lengths that config.pbtxt leaves open are 16, with a comment to fill them in. Models
        that only an ensemble calls, and those that cannot be measured, are comments.

    Raises
    ------
    BadInput
        Where no model can be measured.
    """
    if not repository.is_dir():
        raise BadInput(f"{repository} is not a folder", "name the folder of the model folders")
    entries, left_out = _entries(repository)
    called = {part.name for each in entries for part in each.model.composing}
    scanned = [each for each in entries if each.name not in called]
    left_out += [f"{name}: an ensemble calls it; name it to scan it alone" for name in called]
    if not scanned:
        raise BadInput(
            "\n".join([f"{repository}: no model can be measured", *sorted(left_out)]),
            "a model is a folder with a version folder, such as tagger/1/model.onnx",
        )
    models = min(os.path.relpath(repository, folder), str(repository), key=len)
    common = max((each.batch_sizes for each in scanned), key=len)
    return "\n".join(
        [
            "# The first scan: `hpcbench plan` on this file says how long it takes.",
            "name: first-scan",
            f"model_repository: {_flow(models)}",
            "models:",
            *(line for each in scanned for line in _model_lines(each, common)),
            *(
                # The bytes of a name that is no UTF-8 are spelt out: no file of text can hold them.
                f"  # left out: {printable(line)}"
                for text in sorted(left_out)
                for line in text.splitlines()
            ),
            "server:                 # axes that need another Triton configuration",
            "  instance_count: [base, 2]     # base: as in config.pbtxt",
            "load:                   # axes that are swept on one server",
            f"  batch_size: {_flow(list(common))}",
            "  concurrency: [1, 4]",
            "measurement: {measurement_interval_ms: 2000}",
            "repeats: 3              # each on a fresh server; fewer give no intervals",
            "",
        ]
    )


def _entries(repository: Path) -> tuple[list[_Entry], list[str]]:
    entries, left_out = [], []
    for path in sorted(repository.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        try:
            entry = _entry(path.name, read_model(repository, path.name))
            problems = _problems(entry, (1,))
        except BadInput as error:
            problems = [error.message.removeprefix("models: ")]
        if problems:
            left_out.append(f"{path.name}: {'; '.join(problems)}")
        else:
            entries.append(entry)
    return entries, left_out


def _entry(name: str, model: TritonModel) -> _Entry:
    shapes = {
        tensor: [LENGTH if length == -1 else length for length in dims]
        for tensor, dims in model.inputs or ()
        if -1 in dims
    }
    entry = _Entry(name, model, shapes, (1,))
    if model.max_batch_size is None:
        # Only the server knows its limit.
        return entry
    sizes = tuple(size for size in BATCH_SIZES if not _problems(entry, (size,)))
    return _Entry(name, model, shapes, sizes or (1,))


def _problems(entry: _Entry, sizes: Sequence[int]) -> list[str]:
    asked = Model(name=entry.name, shapes=entry.shapes)
    load = Load(batch_size=tuple(sizes), concurrency=(1,))
    return model_problems(asked, entry.model, Server(), load, Measurement())


def _model_lines(entry: _Entry, common: Sequence[int]) -> list[str]:
    lines = [f"  - name: {_flow(entry.name)}"]
    if entry.shapes:
        lines.append(
            f"    shapes:             # {LENGTH} stands for a -1: fill in what you will send"
        )
        lines += [f"      {_flow(name)}: {_flow(dims)}" for name, dims in entry.shapes.items()]
    if entry.model.inputs is None:
        lines.append("    # no inputs in its config.pbtxt: Triton completes them when it loads it;")
        lines.append("    # raise batch_size if it has a batch dimension")
    if entry.batch_sizes != tuple(common):
        lines.append(f"    load: {{batch_size: {_flow(list(entry.batch_sizes))}}}")
    return lines


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()
