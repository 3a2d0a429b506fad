"""Rules of the house that no linter checks: the size of modules, and how deep classes are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcbench.config.container import RUNTIMES

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path
    for package in ("hpcbench", "analysis")
    for path in (ROOT / package).rglob("*.py")
    if not any(parent.is_symlink() for parent in path.parents)
)
MAX_LINES = 400
MAX_ARGUMENTS = 6
FAMILIES = {"FileSection", "HpcbenchError"}
"""Classes that stand for pydantic's BaseModel and for Exception here: whatever is derived from them
is as deep as what is derived from those."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_read_at_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def _classes() -> Iterator[tuple[str, list[str]]]:
    """(name, names of its bases) of every class of the two packages."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
                yield node.name, [name.rpartition(".")[2] for name in bases]


def test_no_class_is_more_than_one_deep() -> None:
    """Protocols extend each other without code to look up, and so may be deeper."""
    bases = dict(_classes())
    protocols = {name for name, its in bases.items() if "Protocol" in its}
    ours = bases.keys() - FAMILIES - protocols

    def depth(name: str) -> int:
        return max((1 + depth(base) for base in bases[name] if base in ours), default=0)

    assert {name: depth(name) for name in ours if depth(name) > 1} == {}


def test_a_container_runtime_is_named_in_its_module_and_in_the_one_list() -> None:
    """What starts programs asks the Protocol, never which runtime it is."""
    modules = [entry.module for entry in RUNTIMES.values() if entry.module is not None]
    assert all(module.startswith("hpcbench.runtime.") for module in modules)
    for package in ("measure", "cluster", "doctor"):
        for path in (ROOT / "hpcbench" / package).glob("*.py"):
            assert ".runtime ==" not in path.read_text(encoding="utf-8"), path


NOT_OF_THE_FIELD = {
    "told",
    "tell",
    "tells",
    "Desk",
    "Roster",
    "seal",
    "visit",
    "judge",
    "rounds",
    "sharing",
    "leftovers",
    "unmeasured",
    "combine",
    "Room",
    "Held",
    "Wish",
}
"""Words that no manual of Triton, Slurm, Dask or statistics has for what they stood for here."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_those_of_the_field_and_functions_take_at_most_six_arguments(path: Path) -> None:
    """A command of click takes one argument per option, and `hpcbench.run` those of its command."""
    names, long = {path.stem}, {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case (
                ast.FunctionDef(name=name, args=given, decorator_list=decorators)
                | ast.AsyncFunctionDef(name=name, args=given, decorator_list=decorators)
            ):
                names.add(name)
                taken = [*given.posonlyargs, *given.args, *given.kwonlyargs]
                taken = [arg.arg for arg in taken if arg.arg not in ("self", "cls")]
                is_command = any("click.command(" in ast.unparse(each) for each in decorators)
                is_public_run = (path.name, name) == ("driver.py", "run")
                if len(taken) > MAX_ARGUMENTS and not (is_command or is_public_run):
                    long[name] = taken
            case ast.ClassDef(name=name) | ast.Name(id=name) | ast.arg(arg=name):
                names.add(name)
            case ast.keyword(arg=str(name)) | ast.Attribute(attr=name, ctx=ast.Store()):
                names.add(name)
            case ast.Dict(keys=keys):
                names |= {key.value for key in keys if isinstance(key, ast.Constant)}
    assert {str(name).strip("_") for name in names} & NOT_OF_THE_FIELD == set()
    assert long == {}
