"""Things by subset: the mask first, then the count, then fewer."""

import numpy as np
import pytest

from combiner.subsets import BySubset


def found(table: BySubset[str], *masks: str) -> list[str]:
    present = np.array([[digit == "1" for digit in mask] for mask in masks])
    things = [""] * len(masks)
    for rows, thing in table.groups(present):
        for row in rows.tolist():
            things[row] = thing
    return things


def test_a_mask_goes_before_a_count_and_a_count_before_fewer() -> None:
    table = BySubset([0, 1, 2], {"111": "all", "110": "two", "#2": "pair", "#1": "one"})
    assert found(table, "111", "110", "101", "001", "011", "111") == [
        *("all", "two", "pair", "one", "pair", "all"),
    ]


@pytest.mark.parametrize(
    ("mask", "expected"), [("1111", "all"), ("1110", "two"), ("0111", "two"), ("0001", "two")]
)
def test_whoever_is_not_known_gets_what_is_known_of_fewer(mask: str, expected: str) -> None:
    table = BySubset([0, 1, 2, 3], {"1111": "all", "1100": "two"})
    assert found(table, mask) == [expected]


def test_only_the_named_columns_make_the_mask() -> None:
    table = BySubset([2, 0], {"11": "both", "10": "first", "01": "second"})
    assert found(table, "101", "011", "110", "111") == ["both", "first", "second", "both"]


def test_no_rows_make_no_groups() -> None:
    assert list(BySubset([0], {"1": "one"}).groups(np.empty((0, 1), dtype=np.bool_))) == []
