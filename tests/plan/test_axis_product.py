"""Products of axes, axes that go together, and rules that exclude."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcbench.plan import axis_product

AXES = st.dictionaries(
    st.sampled_from("abcde"),
    st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True),
    min_size=1,
)
RULES = st.lists(
    st.dictionaries(
        st.sampled_from("abcde"), st.lists(st.integers(0, 5), min_size=1), min_size=1, max_size=2
    ),
    max_size=3,
)


def product_of(
    axes: dict[str, list[Any]], together: Any = (), rules: Any = ()
) -> tuple[list[dict[str, Any]], list[int]]:
    """The combinations that are left, and how many each rule took."""
    parts = axis_product.make_factors(axes, together)
    dropped = [0] * len(rules)
    chosen = axis_product.allowed_combinations(parts, rules, dropped)
    return [axis_product.combination_values(parts, combination) for combination in chosen], dropped


@given(axes=AXES, rules=RULES)
def test_what_is_left_is_the_product_without_what_a_rule_fits(
    axes: dict[str, list[int]], rules: list[dict[str, list[int]]]
) -> None:
    found, dropped = product_of(axes, rules=rules)
    product = [dict(zip(axes, v, strict=True)) for v in itertools.product(*axes.values())]

    def fits(asked: dict[str, int], rule: dict[str, list[int]]) -> bool:
        there = [name for name in rule if name in axes]
        return all(asked[name] in rule[name] for name in there)

    assert found == [asked for asked in product if not any(fits(asked, rule) for rule in rules)]
    assert len(found) + sum(dropped) == math.prod(map(len, axes.values()))


def test_axes_that_go_together_are_one() -> None:
    found, _ = product_of({"a": [1, 2], "b": ["x", "y"], "c": [True, False]}, [["a", "c"]])
    assert [tuple(asked.values()) for asked in found] == [
        *((1, True, "x"), (1, True, "y"), (2, False, "x"), (2, False, "y")),
    ]


def test_an_axis_of_one_value_goes_with_all() -> None:
    found, _ = product_of({"a": [1, 2], "b": [5], "c": [3, 4]}, [["a", "b", "c"]])
    assert [(asked["a"], asked["b"], asked["c"]) for asked in found] == [(1, 5, 3), (2, 5, 4)]


def test_axes_that_go_together_have_as_many_values() -> None:
    with pytest.raises(ValueError, match="a has 2, b has 3"):
        axis_product.make_factors({"a": [1, 2], "b": [1, 2, 3]}, [["a", "b"]])


def test_true_is_not_one() -> None:
    found, dropped = product_of({"a": [1, 2], "b": [True]}, rules=[{"a": [True]}, {"b": [1]}])
    assert len(found) == 2
    assert dropped == [0, 0]
