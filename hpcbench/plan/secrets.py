"""What looks like a secret in a site file, and what stands for it in a file that is passed on."""

import re
from collections.abc import Iterator
from typing import Any

_NAME = r"[\w-]*(?:token|secret|passw(?:or)?d|api_?key|access_?key|private_?key|credential)[\w-]*"
# What begins with $, / or ~ only says where the secret is.
_VALUE = r"""(?!["']?[$/~=])(?:"[^"]*"|'[^']*'|[^\s;&|"']+)"""

# In each, group 1 stays, the value goes.
_SECRETS = (
    re.compile(rf"((?:--?)?\b{_NAME}\s*=\s*){_VALUE}", re.IGNORECASE),
    re.compile(rf"(--{_NAME}\s+){_VALUE}", re.IGNORECASE),
    re.compile(r"(\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}", re.IGNORECASE),
    re.compile(r"(://)[^/\s@]+:[^/\s@]+(?=@)"),
)

OMITTED = "__left_out__"
"""What stands for a secret."""


def without_secrets(value: Any) -> Any:
    """Return values without what looks like a secret in their strings.

    Parameters
    ----------
    value
        Mappings, lists and values, as a YAML file has them.

    Returns
    -------
    object
        The same, with `OMITTED` for: the value of a variable or an option whose name says that it
        is one (``NGC_API_KEY=...``, ``--password ...``), what follows ``Bearer`` or ``Basic``, and
        user and password in an address.
    """
    if isinstance(value, dict):
        return {key: _one(key, each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_secrets(each) for each in value]
    if not isinstance(value, str):
        return value
    for pattern in _SECRETS:
        value = pattern.sub(rf"\g<1>{OMITTED}", value)
    return value


def _one(key: str, value: Any) -> Any:
    named = isinstance(value, str) and re.fullmatch(rf"(?:\w+\.)?{_NAME}", key, re.IGNORECASE)
    return OMITTED if named else without_secrets(value)


def left_out(value: Any, key: str = "") -> Iterator[str]:
    """Yield where something was left out.

    Parameters
    ----------
    value
        What `without_secrets` returned.
    key
        The way to it.

    Yields
    ------
    str
        "a secret in pools.gpu.prologue".
    """
    if isinstance(value, dict):
        for name, each in value.items():
            yield from left_out(each, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        found = {text for each in value for text in left_out(each, key)}
        yield from found
    elif isinstance(value, str) and OMITTED in value:
        yield f"a secret in {key}"
