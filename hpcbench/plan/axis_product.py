"""Combines the values of axes: their product, axes that go together, rules that exclude.

What stands in a campaign and changes nothing: most often a misspelt value.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcbench.config.campaign import AXIS_NAMES, Campaign, ExcludeRule, Model

Row = tuple[Any, ...]
Combination = tuple[int, ...]
"""A combination: the position of the row that it takes of each factor."""


@dataclass(frozen=True)
class Factor:
    """Axes that go together, and the rows of values that they take."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]


def make_factors(
    axes: Mapping[str, Sequence[Any]], together: Sequence[Sequence[str]] = ()
) -> list[Factor]:
    """What the grid is the product of, in the order of ``axes``.

    The axes of a group of ``together`` are one factor: the first value of each goes with the first
    of the others. One that has a single value goes with all. Raises ValueError where the numbers
    of their values differ.
    """
    group_of = {name: group for group in together for name in group}
    found: list[Factor] = []
    placed: set[str] = set()
    for name, values in axes.items():
        if name in placed:
            continue
        members = [n for n in group_of.get(name, ()) if n in axes and len(axes[n]) > 1]
        if name not in members:
            found.append(Factor((name,), tuple((value,) for value in values)))
            placed.add(name)
            continue
        counts = {n: len(axes[n]) for n in members}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{n} has {count}" for n, count in counts.items())
            raise ValueError(f"axes that go together need as many values: {told}")
        found.append(Factor(tuple(members), tuple(zip(*(axes[n] for n in members), strict=True))))
        placed.update(members)
    return found


def _row_tests(
    rules: Sequence[Mapping[str, Sequence[Any]]], parts: Sequence[Factor]
) -> list[list[tuple[int, frozenset[int]]]]:
    """Each rule as (factor, the rows that fit); None of its factors fits where one set is empty."""
    return [
        [
            (
                position,
                frozenset(
                    number
                    for number, row in enumerate(part.rows)
                    if all(
                        _is_among(value, rule[name])
                        for name, value in zip(part.names, row, strict=True)
                        if name in rule
                    )
                ),
            )
            for position, part in enumerate(parts)
            if not rule.keys().isdisjoint(part.names)
        ]
        for rule in rules
    ]


def allowed_combinations(
    parts: Sequence[Factor], rules: Sequence[Mapping[str, Sequence[Any]]], dropped: list[int]
) -> Iterator[Combination]:
    """Every combination that no rule excludes; ``dropped`` counts what each rule took.

    A rule names axes and values; it excludes what has one of its values on each of these axes.
    """
    tests = _row_tests(rules, parts)
    for combination in itertools.product(*(range(len(part.rows)) for part in parts)):
        for number, test in enumerate(tests):
            if all(combination[position] in rows for position, rows in test):
                dropped[number] += 1
                break
        else:
            yield combination


def combination_values(parts: Sequence[Factor], combination: Combination) -> dict[str, Any]:
    """The value of each axis in a combination."""
    return {
        name: value
        for part, number in zip(parts, combination, strict=True)
        for name, value in zip(part.names, part.rows[number], strict=True)
    }


def axis_values(parts: Sequence[Sequence[Factor]], axis: str) -> list[Any]:
    """The values that an axis has in any of some products, each once."""
    found: list[Any] = []
    for factor in (factor for part in parts for factor in part if axis in factor.names):
        place = factor.names.index(axis)
        found += [row[place] for row in factor.rows if not _is_among(row[place], found)]
    return found


def _is_among(value: Any, values: Sequence[Any]) -> bool:
    """Whether a value is one of these, of the same type."""
    # `in` would take True for 1.
    return any(type(value) is type(other) and value == other for other in values)


Part = tuple[Model, Sequence[Factor]]
"""A part of the grid: a product, and of which model."""

_NAMES = {field: name for name, field in AXIS_NAMES.items()}


def rule_text(rule: ExcludeRule) -> str:
    """A rule as its writer would know it again."""
    return ", ".join(
        f"{_NAMES.get(axis, axis)}: {_text(v)}" for axis, v in rule.values_by_axis.items()
    )


def no_effect_warnings(
    campaign: Campaign, parts: Sequence[Part], dropped: Sequence[int]
) -> Iterator[str]:
    """A sentence for each value in a rule that no axis has, each rule and each zip without effect.

    ``dropped`` counts what each rule took from the grid of these parts.
    """
    yield from _rules(campaign, parts, dropped)
    yield from _zips(campaign, parts)


def _text(values: Sequence[Any]) -> str:
    """The values of an axis as they stand in a file."""
    plain = [value if isinstance(value, str) else _json(value) for value in values]
    return plain[0] if len(plain) == 1 else f"[{', '.join(plain)}]"


def _json(value: Any) -> str:
    text = getattr(value, "text", None)
    return text if isinstance(text, str) else json.dumps(value)


def _rules(campaign: Campaign, parts: Sequence[Part], dropped: Sequence[int]) -> Iterator[str]:
    """The values in rules that no axis has, and the rules that take nothing nevertheless."""
    for rule, count in zip(campaign.exclude, dropped, strict=True):
        concerned = [factors for model, factors in parts if rule.applies_to(model)]
        where = f"exclude: {{{rule_text(rule)}}}"
        strange = False
        for axis, values in rule.values_by_axis.items():
            if axis == "model":
                continue
            there = axis_values(concerned, axis)
            unknown = [value for value in values if not _is_among(value, there)]
            strange |= bool(unknown)
            if unknown:
                never, known = (" or ".join(_text([v]) for v in each) for each in (unknown, there))
                yield f"{where}: {_NAMES[axis]} is never {never}; it is {known}"
        if not count and not strange:
            yield f"{where}: no combination has all of these, or an earlier rule took those"


def _zips(campaign: Campaign, parts: Sequence[Part]) -> Iterator[str]:
    for group in campaign.zip:
        joined = {AXIS_NAMES[name] for name in group}
        if not any(len(joined & set(f.names)) > 1 for _, factors in parts for f in factors):
            yield (
                f"zip: [{', '.join(group)}] joins nothing: no model has several values on two of "
                "these axes"
            )
