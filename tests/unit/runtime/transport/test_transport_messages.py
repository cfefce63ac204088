"""Values become frames and come back the same, whatever their dtype, shape and layout."""

import ml_dtypes
import numpy as np
import pytest

from thalweg.dialects.types import DTYPES
from thalweg.runtime.plan import DEAD
from thalweg.runtime.transport.message import TINY, decode, encode


def round_trip(*values):
    recipes, frames = encode(values)
    return decode(recipes, [bytes(frame) for frame in frames])


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (40, 50), (300, 301)], ids=str)
def test_arrays_of_every_dtype_arrive_as_they_were(dtype, shape):
    sent = np.random.default_rng(0).integers(0, 2, shape).astype(dtype.numpy)
    (came,) = round_trip(sent)
    assert came.dtype == sent.dtype and came.shape == sent.shape and came.flags.writeable
    np.testing.assert_array_equal(came, sent)


def test_dead_values_and_arrays_keep_their_order():
    first, dead, last = round_trip(np.float32(1), DEAD, np.arange(TINY))
    assert dead is DEAD and first == 1 and last.shape == (TINY,)


def test_scattered_arrays_are_gathered():
    sent = np.arange(120_000, dtype=np.float32).reshape(300, 400).T[::2]
    np.testing.assert_array_equal(round_trip(sent)[0], sent)


def test_strings_of_any_length_arrive():
    sent = np.array([[b"", b"a\0b"], [b"x" * 70_000, "grüße".encode()]], dtype=object)
    (came,) = round_trip(sent)
    assert came.shape == (2, 2) and came.tolist() == sent.tolist()
    assert round_trip(np.empty((0,), object))[0].shape == (0,)


def test_what_is_not_a_tensor_cannot_leave_its_task():
    with pytest.raises(TypeError, match="a dict cannot leave its task: only tensors are sent"):
        encode([{}])
    with pytest.raises(TypeError, match="holds a dict"):
        encode([np.array([{}], dtype=object)])


def test_frames_that_do_not_fit_the_header_are_errors():
    recipes, frames = encode([np.zeros((100, 100), ml_dtypes.bfloat16)])
    with pytest.raises(ValueError, match="19999 bytes came for bf16"):
        decode(recipes, [bytes(frames[0])[:-1]])
    with pytest.raises(ValueError, match="a frame is missing"):
        decode(recipes, [])
    recipes, frames = encode([np.array([b"ab", b"c"], dtype=object)])
    with pytest.raises(ValueError, match="2 strings in 2 bytes"):
        decode(recipes, [frames[0], b"ab"])
