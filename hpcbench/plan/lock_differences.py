"""What is different between two locks: the one that is repeated, and that of the repetition."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbench.config import yaml_model
from hpcbench.plan.lock import Lock


@dataclass(frozen=True)
class Difference:
    """What two locks say differently of one thing.

    Attributes
    ----------
    what
        The thing.
    before, now
        What each says.
    """

    what: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: {self.before} -> {self.now}"


def differences(before: Lock, now: Lock) -> list[Difference]:
    """Compare two locks.

    Parameters
    ----------
    before
        The lock that is repeated.
    now
        That of the session that repeats it. What it does not know yet is not compared.

    Returns
    -------
    list of Difference
        First what makes other points, then what they are measured with and where.
    """
    pairs: list[tuple[str, Any, Any]] = []
    pairs += _by_name("model", before.models, now.models)
    pairs += _by_name("input", _names(before.inputs), _names(now.inputs))
    pairs += _by_name("image", before.images, now.images)
    if before.points.digest != now.points.digest:
        pairs.append(("points", before.points.count, f"{now.points.count}, with other ids"))
    for kind in ("versions", "backends", "packages"):
        old, new = getattr(before, kind), getattr(now, kind)
        word = {"versions": "", "backends": "backend", "packages": "package"}[kind]
        pairs += _by_name(word, {k: v for k, v in old.items() if k in new}, new)
    pairs += _of_sites(before, now)
    if now.nodes:
        pairs += _of_nodes(before, now)
    return [Difference(what, _text(a), _text(b)) for what, a, b in pairs if a != b]


def _names(inputs: Mapping[str, str]) -> dict[str, str]:
    """The digests without folders: those of a colleague are others, and mean nothing."""
    return {Path(path).name: digest for path, digest in inputs.items()}


def _by_name(
    word: str, before: Mapping[str, str], now: Mapping[str, str]
) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys((*before, *now)):
        yield f"{word} {name}".strip(), before.get(name), now.get(name)


def _of_sites(before: Lock, now: Lock) -> Iterator[tuple[str, Any, Any]]:
    yield "site", before.site.name, now.site.name
    yield "pools", ", ".join(before.pools), ", ".join(now.pools)
    if before.site.name == now.site.name:
        old, new = (dict(_leaves(yaml_model.plain(lock.site))) for lock in (before, now))
        for key in dict.fromkeys((*old, *new)):
            yield f"site: {key}", old.get(key), new.get(key)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, f"{key}.{name}".lstrip("."))
    else:
        yield key, value


def _of_nodes(before: Lock, now: Lock) -> Iterator[tuple[str, Any, Any]]:
    for what, field in (("GPU", "gpu"), ("GPU driver", "gpu_driver"), ("CPU", "cpu")):
        old, new = (sorted({str(getattr(n, field)) for n in lock.nodes}) for lock in (before, now))
        yield what, ", ".join(old), ", ".join(new)
    old, new = (sorted({node.name for node in lock.nodes}) for lock in (before, now))
    yield "nodes", _some(old), _some(new)


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _text(value: Any) -> str:
    return "none" if value in (None, "", "None") else str(value)


def differences_text(before: Lock, found: Sequence[Difference]) -> str:
    """Return what to say of differences before anything is measured.

    Parameters
    ----------
    before
        The lock that is repeated.
    found
        What is different.

    Returns
    -------
    str
        One line, and one more for each difference.
    """
    its = before.session
    title = f"this repeats session {its.run_id} of {its.started_at:%Y-%m-%d}"
    if not found:
        return f"{title}; nothing is different, as far as it is known before it is measured"
    return "\n  ".join([f"{title}; different this time:", *map(str, found)])
