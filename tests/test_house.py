"""Rules of the house that no linter checks: the size of modules, the depth of classes, names."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
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


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _classes() -> Iterator[tuple[str, list[str]]]:
    """(name, names of its bases) of every class of the two packages."""
    for path in MODULES:
        for node in ast.walk(_tree(path)):
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
    "telling",
    "desk",
    "roster",
    "seal",
    "seals",
    "sealed",
    "visit",
    "visits",
    "visited",
    "judge",
    "judges",
    "judged",
    "rounds",
    "sharing",
    "leftover",
    "leftovers",
    "unmeasured",
    "combine",
    "combined",
    "room",
    "rooms",
    "held",
    "wish",
}
"""Words that no manual of Triton, Slurm, Dask or statistics has for what they stood for here."""

OF_ANOTHER_FIELD = {"cluster": {"held"}, "benchmarks": {"rounds"}}
"""By folder, those that a manual has for what they stand for there: jobs of Slurm and HTCondor are
held, pytest-benchmark has rounds."""

TESTS = sorted((ROOT / "tests").rglob("*.py"))


def _words(name: str) -> set[str]:
    """The words of a name: of ``_MostSealed`` and ``most_sealed`` most and sealed."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def _names(tree: ast.Module) -> Iterator[str]:
    """The names that a module gives, and not those that it takes from others."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.Name(id=name) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.alias(asname=str(name)):
                yield name
            case ast.Dict(keys=keys):
                values = (key.value for key in keys if isinstance(key, ast.Constant))
                yield from (value for value in values if isinstance(value, str))


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_part_of_a_name_is_a_word_that_the_field_does_not_have(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[1]
    banned = NOT_OF_THE_FIELD - OF_ANOTHER_FIELD.get(folder, set())
    found = {name: _words(name) & banned for name in (path.stem, *_names(_tree(path)))}
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_take_at_most_six_arguments(path: Path) -> None:
    """A command of click takes one argument per option, and `hpcbench.run` those of its command."""
    long = {}
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            taken = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            names = [each.arg for each in taken if each.arg not in ("self", "cls")]
            is_command = any("click.command(" in ast.unparse(x) for x in node.decorator_list)
            is_public_run = (path.name, node.name) == ("driver.py", "run")
            if len(names) > MAX_ARGUMENTS and not (is_command or is_public_run):
                long[node.name] = names
    assert long == {}


def _types(tree: ast.Module) -> Iterator[str]:
    """The public classes of a module, and the other types that it gives a name."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
                if re.match("[A-Z]+[a-z]", name):
                    yield name


def test_a_class_has_a_name_that_no_other_class_or_type_has() -> None:
    classes = {name for name, _ in _classes()}
    modules = defaultdict(list)
    for path in MODULES:
        for name in _types(_tree(path)):
            modules[name].append(str(path.relative_to(ROOT)))
    twice = {name: found for name, found in modules.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name in classes} == {}
