"""The product of axes: zipped axes, rules that exclude combinations, and what has no effect."""

import itertools
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from hpcbench.config.campaign import Campaign
from hpcbench.config.model import Model
from hpcbench.config.point_rules import AXIS_NAMES, PointRule
from hpcbench.config.values import value_key

Row = tuple[Any, ...]
"""One value of each axis of a factor."""

Combination = tuple[int, ...]
"""For each factor the index of the row that is chosen. Indices are cheaper to compare than rows:
a campaign may have millions of combinations."""


@dataclass(frozen=True)
class Factor:
    """Axes whose values go together: one axis, or several that the campaign zips.

    Attributes
    ----------
    names
        Names of the axes.
    rows
        The values that they take, one of each axis per row.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]


def make_factors(
    axes: Mapping[str, Sequence[Any]], zipped: Sequence[Sequence[str]] = ()
) -> list[Factor]:
    """Return the factors whose product is the grid.

    Parameters
    ----------
    axes
        The values of each axis.
    zipped
        Groups of axes that are joined into one factor: the first value of each goes with the first
        value of the others. An axis with a single value goes with all.

    Returns
    -------
    list of Factor
        In the order of ``axes``.

    Raises
    ------
    ValueError
        The axes of a group have different numbers of values.
    """
    group_of = {name: group for group in zipped for name in group}
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
            numbers = ", ".join(f"{n} has {count}" for n, count in counts.items())
            raise ValueError(f"zipped axes need the same number of values: {numbers}")
        found.append(Factor(tuple(members), tuple(zip(*(axes[n] for n in members), strict=True))))
        placed.update(members)
    return found


def narrowed(factor: Factor, names: AbstractSet[str]) -> Factor:
    """Return a factor with some of its axes only.

    Parameters
    ----------
    factor
        The factor.
    names
        The axes to keep; those that it has not are no matter.

    Returns
    -------
    Factor
        As many rows as before, and in their order.
    """
    places = [place for place, name in enumerate(factor.names) if name in names]
    return Factor(
        tuple(factor.names[place] for place in places),
        tuple(tuple(row[place] for place in places) for row in factor.rows),
    )


def _row_tests(
    rules: Sequence[Mapping[str, Sequence[Any]]], parts: Sequence[Factor]
) -> list[list[tuple[int, frozenset[int]]]]:
    """Return each rule as (index of a factor, indices of its rows that match)."""
    return [
        [
            (position, _matching_rows(rule, part))
            for position, part in enumerate(parts)
            if not rule.keys().isdisjoint(part.names)
        ]
        for rule in rules
    ]


def _matching_rows(rule: Mapping[str, Sequence[Any]], part: Factor) -> frozenset[int]:
    keys = [
        (place, {*map(value_key, rule[name])})
        for place, name in enumerate(part.names)
        if name in rule
    ]
    return frozenset(
        number
        for number, row in enumerate(part.rows)
        if all(value_key(row[place]) in wanted for place, wanted in keys)
    )


def allowed_combinations(
    parts: Sequence[Factor], rules: Sequence[Mapping[str, Sequence[Any]]], dropped: list[int]
) -> Iterator[Combination]:
    """Yield every combination that no rule excludes.

    A rule names axes and values. It excludes the combinations that have one of its values on each
    of these axes.

    Parameters
    ----------
    parts
        The factors of the grid.
    rules
        For each rule its values by axis.
    dropped
        For each rule how many combinations it has excluded; counted up here.

    Yields
    ------
    Combination
        In the order of the factors, the last one varying fastest.
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
    """Return the value of each axis in a combination.

    Parameters
    ----------
    parts
        The factors of the grid.
    combination
        One of their combinations.

    Returns
    -------
    dict
        Values by the name of the axis.
    """
    found: dict[str, Any] = {}
    for part, number in zip(parts, combination, strict=True):
        found.update(zip(part.names, part.rows[number], strict=True))
    return found


def _axis_values(parts: Sequence[Sequence[Factor]], axis: str) -> dict[Hashable, Any]:
    """Return the values that an axis has in any of some products, by their keys."""
    found: dict[Hashable, Any] = {}
    for factor in (factor for part in parts for factor in part if axis in factor.names):
        place = factor.names.index(axis)
        found |= {value_key(row[place]): row[place] for row in factor.rows}
    return found


Part = tuple[Model, Sequence[Factor]]
"""A part of the grid: the factors of one product, with their model."""

_NAMES = {field: name for name, field in AXIS_NAMES.items()}


def rule_text(rule: PointRule) -> str:
    """Return a rule of ``exclude`` as the campaign file has it.

    Parameters
    ----------
    rule
        The rule.

    Returns
    -------
    str
        Its keys and values in YAML's flow style, without the braces.
    """
    return ", ".join(
        f"{_NAMES.get(axis, axis)}: {_text(v)}" for axis, v in rule.values_by_axis.items()
    )


def no_effect_warnings(
    campaign: Campaign, parts: Sequence[Part], dropped: Sequence[int]
) -> Iterator[str]:
    """Yield a warning for each part of the campaign that changes nothing.

    These are values in a rule that no axis has, most often misspelt, rules that exclude nothing,
    and zips that join nothing.

    Parameters
    ----------
    campaign
        The campaign.
    parts
        All parts of its grid.
    dropped
        For each rule of ``exclude`` how many combinations it has excluded.

    Yields
    ------
    str
        One sentence.
    """
    yield from _rules(campaign, parts, dropped)
    yield from _zips(campaign, parts)


def _text(values: Sequence[Any]) -> str:
    """Return the values of an axis as the campaign file has them."""
    plain = [value if isinstance(value, str) else _json(value) for value in values]
    return plain[0] if len(plain) == 1 else f"[{', '.join(plain)}]"


def _json(value: Any) -> str:
    text = getattr(value, "text", None)
    if isinstance(text, str):
        return text
    return json.dumps(value.model_dump() if hasattr(value, "model_dump") else value)


def _rules(campaign: Campaign, parts: Sequence[Part], dropped: Sequence[int]) -> Iterator[str]:
    """Yield values in rules that no axis has, and rules that exclude nothing nevertheless."""
    for rule, count in zip(campaign.exclude, dropped, strict=True):
        concerned = [factors for model, factors in parts if rule.is_about(model.name, model.label)]
        where = f"exclude: {{{rule_text(rule)}}}"
        unknown_values = False
        for axis, values in rule.values_by_axis.items():
            if axis == "model":
                continue
            there = _axis_values(concerned, axis)
            unknown = [value for value in values if value_key(value) not in there]
            unknown_values |= bool(unknown)
            if unknown:
                never, known = (
                    " or ".join(_text([v]) for v in each) for each in (unknown, there.values())
                )
                yield f"{where}: {_NAMES[axis]} is never {never}; its values: {known}"
        if not count and not unknown_values:
            yield f"{where}: no combination has all of these, or an earlier rule excludes them"


def _zips(campaign: Campaign, parts: Sequence[Part]) -> Iterator[str]:
    for group in campaign.zip:
        joined = {AXIS_NAMES[name] for name in group}
        if not any(len(joined & set(f.names)) > 1 for _, factors in parts for f in factors):
            yield (
                f"zip: [{', '.join(group)}] joins nothing: no model has several values on two of "
                "these axes"
            )
