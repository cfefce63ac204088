"""Functions that move elements, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from against_numpy import DTYPES, check, draw

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.frontend import array as xp


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_moves(dtype):
    x = draw((2, 3), dtype)
    check(
        lambda x: xp.concat([xp.flip(x), xp.roll(x, 1, axis=1)]),
        lambda x: np.concatenate([np.flip(x), np.roll(x, 1, 1)]),
        x,
    )
    check(lambda x: xp.pad(x, ((1, 0), (0, 2))), lambda x: np.pad(x, ((1, 0), (0, 2))), x)


@pytest.mark.parametrize(
    ("shape", "wanted"), [((2, 6), (3, 4)), ((2, 6), (-1, 2)), ((2, 6), 12), ((1, 1), ()), ((0, 3), (3, -1))]
)
def test_reshape(shape, wanted):
    check(lambda x: xp.reshape(x, wanted), lambda x: np.reshape(x, wanted), draw(shape, "float32"))
    check(lambda x: x.reshape(-1), lambda x: x.reshape(-1), draw(shape, "float32"))


@pytest.mark.parametrize(
    ("wanted", "problem"), [((5, 2), "12 elements"), ((-1, -1), "only one extent"), ((-1, 5), "cannot hold")]
)
def test_reshape_that_does_not_fit(wanted, problem):
    with pytest.raises(TypeInferenceError, match=problem):
        xp.reshape(xp.ones((2, 6)), wanted)


def test_order_of_dimensions():
    x = draw((2, 3, 4), "float32")
    check(lambda x: xp.permute_dims(x, (2, 0, 1)), lambda x: np.transpose(x, (2, 0, 1)), x)
    check(xp.transpose, np.transpose, x)
    check(lambda x: xp.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1), x)
    check(lambda x: xp.moveaxis(x, (0, 1), (2, 0)), lambda x: np.moveaxis(x, (0, 1), (2, 0)), x)
    check(lambda x: xp.swapaxes(x, 0, 2), lambda x: np.swapaxes(x, 0, 2), x)
    check(lambda x: x.mT, lambda x: np.swapaxes(x, -1, -2), x)
    check(lambda x: x.T, np.transpose, draw((2, 3), "float32"))


def test_dimensions_of_extent_one():
    x = draw((2, 1, 3, 1), "float32")
    check(xp.squeeze, np.squeeze, x)
    check(lambda x: xp.squeeze(x, axis=1), lambda x: np.squeeze(x, 1), x)
    check(lambda x: xp.squeeze(x, axis=(-1, 1)), lambda x: np.squeeze(x, (1, 3)), x)
    check(lambda x: xp.expand_dims(x, axis=-1), lambda x: np.expand_dims(x, -1), x)
    check(lambda x: xp.expand_dims(x, axis=(0, 3)), lambda x: np.expand_dims(x, (0, 3)), x)
    with pytest.raises(TypeInferenceError, match="has extent 2, not 1"):
        xp.squeeze(xp.ones((2, 1)), axis=0)


def test_broadcasting():
    x = draw((2, 1), "float32")
    check(lambda x: xp.broadcast_to(x, (3, 2, 4)), lambda x: np.broadcast_to(x, (3, 2, 4)), x)
    check(xp.broadcast_arrays, np.broadcast_arrays, x, draw((3,), "int32"))
    assert xp.broadcast_shapes((2, 1), (3,), ()) == (2, 3)
    with pytest.raises(TypeInferenceError, match="does not fit"):
        xp.broadcast_to(xp.ones((2,)), (3,))


def test_joining():
    a, b = draw((2, 3), "float32"), draw((1, 3), "float32", seed=1)
    check(lambda a, b: xp.concat([a, b]), lambda a, b: np.concatenate([a, b]), a, b)
    check(lambda a, b: xp.concat([a, b], axis=None), lambda a, b: np.concatenate([a, b], axis=None), a, b)
    check(lambda a, b: xp.stack([a, b], axis=-1), lambda a, b: np.stack([a, b], axis=-1), a, a)
    check(
        lambda a, b: xp.concat((a, b)), lambda a, b: np.concatenate([a, b]).astype(np.float32), a, draw((1, 3), "int8")
    )
    with pytest.raises(TypeInferenceError, match="stack: shapes differ"):
        xp.stack([xp.ones(2), xp.ones(3)])


def test_parting():
    x = draw((6, 2), "float32")
    check(xp.unstack, lambda x: list(x), x)
    check(lambda x: xp.unstack(x, axis=1), lambda x: [x[:, 0], x[:, 1]], x)
    check(lambda x: xp.split(x, 3), lambda x: np.split(x, 3), x)
    check(lambda x: xp.split(x, [1, 4]), lambda x: np.split(x, [1, 4]), x)
    with pytest.raises(TypeInferenceError, match="4 equal parts"):
        xp.split(xp.ones((6,)), 4)


def test_repeating():
    x = draw((2, 3), "float32")
    check(lambda x: xp.tile(x, (2, 2)), lambda x: np.tile(x, (2, 2)), x)
    check(lambda x: xp.tile(x, (2, 1, 2)), lambda x: np.tile(x, (2, 1, 2)), x)
    check(lambda x: xp.tile(x, 3), lambda x: np.tile(x, 3), x)
    check(lambda x: xp.repeat(x, 2), lambda x: np.repeat(x, 2), x)
    check(lambda x: xp.repeat(x, 3, axis=1), lambda x: np.repeat(x, 3, axis=1), x)


@pytest.mark.parametrize("shift", [1, -1, 2, 7, 0])
def test_roll(shift):
    x = draw((3, 4), "float32")
    check(lambda x: xp.roll(x, shift), lambda x: np.roll(x, shift), x)
    check(lambda x: xp.roll(x, (shift, 1), axis=(0, 1)), lambda x: np.roll(x, (shift, 1), (0, 1)), x)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
def test_padding_from_inside(mode):
    x = draw((3, 4), "float32")
    check(lambda x: xp.pad(x, ((1, 2), (2, 0)), mode=mode), lambda x: np.pad(x, ((1, 2), (2, 0)), mode=mode), x)


def test_constant_padding():
    x = draw((3, 4), "float32")
    check(lambda x: xp.pad(x, 1, value=2), lambda x: np.pad(x, 1, constant_values=2), x)
    check(lambda x: xp.pad(x, (1, 2)), lambda x: np.pad(x, (1, 2)), x)
    with pytest.raises(TypeInferenceError, match="pair"):
        xp.pad(xp.ones((2, 2)), ((1, 1), (1, 1), (1, 1)))
    with pytest.raises(TypeInferenceError, match="unknown mode 'mirror'"):
        xp.pad(xp.ones((2, 2)), 1, mode="mirror")


@pytest.mark.parametrize("axis", [2, -3, 1.5])
def test_axis_out_of_range(axis):
    with pytest.raises(TypeInferenceError, match=r"flip: (axis|an axis)"):
        xp.flip(xp.ones((2, 2)), axis=(axis,))
