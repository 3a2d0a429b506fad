"""What stands in a campaign and changes nothing: most often a misspelt value."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hpcbench.config.campaign import NAMES, Campaign, Model, Rule
from hpcbench.plan import axis_product
from hpcbench.plan.axis_product import Factor

Part = tuple[Model, Sequence[Factor]]
"""A part of the grid: a product, and of which model."""

_NAMES = {field: name for name, field in NAMES.items()}


def rule_text(rule: Rule) -> str:
    """A rule as its writer would know it again."""
    return ", ".join(f"{_NAMES.get(axis, axis)}: {_text(v)}" for axis, v in rule.given.items())


def told(campaign: Campaign, parts: Sequence[Part], dropped: Sequence[int]) -> Iterator[str]:
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
        concerned = [factors for model, factors in parts if rule.concerns(model)]
        where = f"exclude: {{{rule_text(rule)}}}"
        strange = False
        for axis, values in rule.given.items():
            if axis == "model":
                continue
            there = axis_product.values(concerned, axis)
            unknown = [value for value in values if not axis_product.among(value, there)]
            strange |= bool(unknown)
            if unknown:
                never, known = (" or ".join(_text([v]) for v in each) for each in (unknown, there))
                yield f"{where}: {_NAMES[axis]} is never {never}; it is {known}"
        if not count and not strange:
            yield f"{where}: no combination has all of these, or an earlier rule took those"


def _zips(campaign: Campaign, parts: Sequence[Part]) -> Iterator[str]:
    for group in campaign.zip:
        joined = {NAMES[name] for name in group}
        if not any(len(joined & set(f.names)) > 1 for _, factors in parts for f in factors):
            yield (
                f"zip: [{', '.join(group)}] joins nothing: no model has several values on two of "
                "these axes"
            )
