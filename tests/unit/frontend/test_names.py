"""Names within a graph."""

from __future__ import annotations

import pytest

from thalweg.frontend.names import Names, cleaned


def test_a_name_is_given_once() -> None:
    names = Names()
    assert [names.claim("y") for _ in range(3)] == ["y", "y_1", "y_2"]
    assert names.claim("y_1") == "y_1_1"
    assert names.claim("z_1") == "z_1"
    assert [names.claim("z") for _ in range(3)] == ["z", "z_2", "z_3"]


@pytest.mark.parametrize(
    ("given", "made"), [("my sum", "my_sum"), ("a/b", "a/b"), ("/a/", "a"), ("", "op"), ("x:0", "x_0"), ("f.g-1",) * 2]
)
def test_names_are_words(given: str, made: str) -> None:
    assert cleaned(given) == made
