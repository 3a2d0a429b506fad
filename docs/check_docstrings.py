"""Check the docstrings of public functions and classes with numpydoc's validation.

    python docs/check_docstrings.py FILE...

The checks stand in pyproject.toml. Four kinds of functions owe their readers a summary only: a
property is documented like an attribute, a validator of pydantic like its field, the docstring of
a click command is its help text, and a function inside a function is private.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from numpydoc.hooks.utils import find_project_root
from numpydoc.hooks.validate_docstrings import parse_config, process_file

SUMMARY_ONLY = {"property", "cached_property", "field_validator", "model_validator"}
SUMMARY_ONLY |= {"command", "group"}
NEEDS_SECTIONS = {"PR01", "RT01", "YD01"}


def _is_documented_by_summary(node: ast.FunctionDef) -> bool:
    names = (ast.unparse(each).partition("(")[0] for each in node.decorator_list)
    return bool({name.rpartition(".")[2] for name in names} & SUMMARY_ONLY)


def _exempt_lines(path: Path) -> tuple[set[int], set[int]]:
    """Return the lines of functions with a summary only, and of those inside functions."""
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    inner = {
        node.lineno
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node is not function
    }
    return {node.lineno for node in functions if _is_documented_by_summary(node)}, inner


def _problems(path: Path) -> Iterator[str]:
    summary_only, inner = _exempt_lines(path)
    root, _ = find_project_root([str(path)])
    for place, name, code, problem in process_file(str(path), parse_config(root)):
        line = int(place.rpartition(":")[2])
        if line not in inner and not (line in summary_only and code in NEEDS_SECTIONS):
            yield f"{place}: {name}: {code} {problem}"


if __name__ == "__main__":
    found = [problem for name in sys.argv[1:] for problem in _problems(Path(name))]
    sys.exit("\n".join(found) or 0)
