"""Nested structures: flattening, building, paths, comparison."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.frontend.tree import LEAF, flatten, flatten_as, leaves_of, map_structure

Pair = namedtuple("Pair", "left right")


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any
    unit: str = field(default="m", metadata={"static": True})


NESTED = st.recursive(
    st.integers() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner) | st.tuples(inner, inner)
    | st.builds(Pair, inner, inner) | st.builds(Point, inner, inner),
    max_leaves=12,
)  # fmt: skip


@given(NESTED)
def test_unflatten_inverts_flatten(value):
    leaves, structure = flatten(value)
    assert structure.unflatten(leaves) == value
    assert structure.count == len(leaves) == len(structure.paths())
    assert hash(structure) == hash(flatten(value)[1])


def test_paths_name_every_leaf():
    _, structure = flatten({"a": [1, (2, None)], "p": Point(3, {"k": 4}), "q": Pair(5, 6)})
    assert structure.paths("v") == [
        "v['a'][0]",
        "v['a'][1][0]",
        "v['p'].x",
        "v['p'].y['k']",
        "v['q'].left",
        "v['q'].right",
    ]


def test_structures_print():
    structure = flatten({"a": [1, (2,)], "b": None, "p": Point(1, 2)})[1]
    assert str(structure) == "{'a': [*, (*,)], 'b': None, 'p': Point(x=*, y=*)}"


def test_static_fields_belong_to_the_structure():
    metres, feet = flatten(Point(1, 2))[1], flatten(Point(1, 2, "ft"))[1]
    assert metres != feet
    assert feet.unflatten([3, 4]) == Point(3, 4, "ft")


def test_subclasses_of_dict_survive():
    value = OrderedDict(b=1, a=2)
    leaves, structure = flatten(value)
    assert leaves == [1, 2]
    assert type(structure.unflatten(leaves)) is OrderedDict


def test_wrong_number_of_leaves():
    with pytest.raises(ValueError, match="a structure of 2 leaves cannot be built from 1"):
        flatten([1, 2])[1].unflatten([1])


def test_flatten_as():
    structure = flatten({"a": [1, 2], "b": 3})[1]
    assert flatten_as(structure, {"a": None, "b": 3}) == [None, None, 3]
    assert flatten_as(structure, {"a": [1, None], "b": None}) == [1, None, None]
    with pytest.raises(ValueError, match="expected the structure"):
        flatten_as(structure, {"a": (1, 2), "b": 3})


def test_map_structure():
    assert map_structure(lambda a, b: a + b, {"x": (1, 2)}, {"x": (10, 20)}) == {"x": (11, 22)}
    with pytest.raises(ValueError, match="structures differ"):
        map_structure(lambda a, b: a, [1], (1,))


def test_anything_else_is_a_leaf():
    assert flatten("text") == (["text"], LEAF)
    assert leaves_of([int, {3}]) == [int, {3}]
