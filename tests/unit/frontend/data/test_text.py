"""The standard library as text."""

import numpy as np
import pytest

from thalweg.frontend import data


def test_encode_and_decode_are_inverse_and_foreign_characters_become_the_last():
    text = data.text(characters=1000)
    line = "def f(x): return x ** 2\n"
    assert text.decode(text.encode(line)) == line
    assert text.encode("π").tolist() == [len(text.alphabet) - 1]


def test_the_text_is_python_and_the_held_out_part_comes_from_other_files():
    text = data.text(characters=20_000)
    assert len(text.train) == 18_000 and len(text.test) == 2_000
    assert "import" in text.decode(text.train)
    start = text.decode(text.test[:200])
    assert start not in text.decode(text.train)


def test_windows_are_shifted_by_one():
    inputs, targets = data.windows(np.arange(10), 3)
    assert inputs.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    np.testing.assert_array_equal(targets, inputs + 1)
    with pytest.raises(ValueError, match="no piece of 10"):
        data.windows(np.arange(10), 10)
