"""Types of the rows of queues and readers: what they give, and one invalid case per rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.dialects import context
from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.ops import queue, reader
from thalweg.dialects.types import (
    DTYPES,
    VARIES,
    ResourceType,
    TensorType,
    VariableType,
    float32,
    int32,
    int64,
    string,
    types_from_text,
    types_to_text,
)

TYPES = st.builds(
    TensorType,
    st.lists(st.integers(VARIES, 5), max_size=3).map(tuple),
    st.sampled_from([*DTYPES, string]),
)

F, N, S = TensorType((3,), float32), TensorType((), int32), TensorType((), string)
STEP = TensorType((), int64)
QUEUE = ResourceType("queue", (F, N))
PADDED = ResourceType("queue", (TensorType((VARIES, 2), float32), TensorType((VARIES,), string)))
DENSE, SPARSE = ResourceType("accumulator", (F,)), ResourceType("sparse_accumulator", (TensorType((9, 2), float32),))
BARRIER = ResourceType("barrier", (S, F, N))
MUTEX = ResourceType("mutex")
NAMES = ResourceType("queue", (S,))
READER = ResourceType("reader", (S, F))


@given(st.lists(TYPES, max_size=4))
def test_types_as_text_and_back(types: list[TensorType]) -> None:
    assert types_from_text(types_to_text(types)) == tuple(types)


@given(st.sampled_from(["queue", "barrier", "reader"]), st.lists(TYPES, max_size=3))
def test_handles_in_mlir_and_back(kind: str, types: list[TensorType]) -> None:
    with context.entered():
        type_ = ResourceType(kind, tuple(types))
        assert context.from_mlir(context.to_mlir(type_)) == type_


def test_text_that_is_no_type() -> None:
    for text in ("f33[2]", "f32", "f32[x]", "f32[2] i32[]"):
        with pytest.raises(ValueError, match="is not a type; write for example"):
            types_from_text(text)


def types_of(row, operands, **attrs):
    return row.result_types(operands, row.complete(attrs))


def test_results() -> None:
    taken = {"timeout": 0.0}
    assert types_of(queue.queue_handle, [], name="q", discipline="fifo", capacity=1, types="f32[3]; i32[]") == (QUEUE,)
    assert types_of(queue.enqueue, [QUEUE, F, N]) == ()
    assert types_of(queue.dequeue, [QUEUE], **taken) == (F, N)
    assert types_of(queue.dequeue_many, [QUEUE], count=4) == (TensorType((4, 3), float32), TensorType((4,), int32))
    assert types_of(queue.dequeue_many, [PADDED], count=4, extents=(7, 8)) == (
        TensorType((4, 7, 2), float32), TensorType((4, 8), string),
    )  # fmt: skip
    assert types_of(queue.dequeue_up_to, [QUEUE], count=4, extents=(9,))[1] == TensorType((9,), int32)
    assert types_of(queue.accumulator_take, [DENSE], required=2) == (F,)
    assert types_of(queue.accumulator_take_rows, [SPARSE], required=2, extents=(5,)) == (
        TensorType((5,), int64), TensorType((5, 2), float32),
    )  # fmt: skip
    assert types_of(queue.barrier_take, [BARRIER], count=2)[:2] == (TensorType((2,), int64), TensorType((2,), string))
    assert types_of(queue.mutex_acquire, [MUTEX]) == (STEP,)
    assert types_of(reader.reader_read_up_to, [READER, NAMES], count=4, extents=(6,))[1] == TensorType((6, 3), float32)
    assert types_of(reader.decode_image, [S], channels=1, size=(2, 3))[0].shape == (2, 3, 1)


INVALID = [
    (queue.queue_handle, [], {"name": "q", "discipline": "lifo", "capacity": 1, "types": ""}, "must be one of fifo"),
    (queue.queue_handle, [], {"name": "q", "discipline": "fifo", "capacity": 0, "types": ""}, "at least 1"),
    (queue.enqueue, [VariableType(F), F, N], {}, "must be a handle of kind queue, got variable"),
    (queue.enqueue, [DENSE, F], {}, "must be a handle of kind queue, got accumulator"),
    (queue.enqueue, [QUEUE, F], {}, "has 2 components, 1 were given"),
    (queue.enqueue, [QUEUE, N, N], {}, r"component 0 is f32\[3\], the value given is i32\[\]"),
    (queue.enqueue, [PADDED, F, S], {}, r"component 0 is f32\[\?,2\], the value given is f32\[3\]"),
    (queue.enqueue_many, [QUEUE, TensorType((4, 3), float32), TensorType((5,), int32)], {}, "one row per element"),
    (queue.enqueue_many, [QUEUE, F, N], {}, r"component 0 is f32\[\?,3\]"),
    (queue.dequeue, [PADDED], {"extents": (1,)}, "takes 2 extents"),
    (queue.queue_size, [MUTEX], {}, "kind queue"),
    (queue.accumulator_handle, [], {"name": "a", "types": "f32[]", "sparse": True}, "one with rows"),
    (queue.accumulator_handle, [], {"name": "a", "types": "f32[]", "reduction": "row_mean"}, "one of mean, sum, got"),
    (queue.accumulator_apply, [DENSE, F, N], {}, r"the step must be i64\[\], got i32\[\]"),
    (queue.accumulator_apply, [DENSE, N, STEP], {}, r"component 0 is f32\[3\]"),
    (queue.accumulator_apply_rows, [SPARSE, F, F, STEP], {}, "the indices must be a vector of integers"),
    (queue.accumulator_apply_rows, [SPARSE, TensorType((2,), int32), F, STEP], {}, r"component 0 is f32\[2,2\]"),
    (queue.accumulator_take_rows, [SPARSE], {"required": 1}, "takes one extent"),
    (queue.accumulator_count, [QUEUE], {}, "must be an accumulator"),
    (queue.barrier_handle, [], {"name": "b", "types": "", "key": float32}, "keys are string or int64"),
    (queue.barrier_insert, [BARRIER, TensorType((2,), string), F], {"component": 2}, "there is no component 2"),
    (queue.barrier_insert, [BARRIER, S, F], {"component": 0}, "the keys must be a vector of string"),
    (queue.barrier_insert, [BARRIER, TensorType((2,), string), F], {"component": 0}, r"component 0 is f32\[2,3\]"),
    (queue.mutex_release, [MUTEX, N], {}, r"the holder must be i64\[\]"),
    (reader.reader_handle, [], {"name": "r", "format": "xml", "types": ""}, "the format must be one of text"),
    (reader.reader_read, [READER, QUEUE], {}, "must be a queue of file names"),
    (reader.reader_read, [MUTEX, NAMES], {}, "kind reader"),
    (reader.read_file, [F], {}, "the file name must be one string"),
    (reader.decode_csv, [F], {"types": "i32[]"}, "the lines must be strings"),
    (reader.parse_example, [TensorType((2, 2), string)], {"types": "", "features": "[]"}, "one example or a vector"),
    (reader.decode_image, [S], {"channels": 2, "size": (1, 1)}, "must be 1, 3 or 4"),
    (reader.decode_image, [S], {"channels": 3}, "either a size to resize to"),
    (reader.decode_raw, [N], {"types": "u8[?]", "extents": (4,)}, "the content must be strings"),
]


@pytest.mark.parametrize(("row", "operands", "attrs", "message"), INVALID, ids=lambda v: getattr(v, "name", None))
def test_invalid(row, operands, attrs, message: str) -> None:
    with pytest.raises(TypeInferenceError, match=rf"^{row.name}: .*{message}"):
        types_of(row, operands, **attrs)
