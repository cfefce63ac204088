"""tf.train.Examples, as the protocol buffer library serialises them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.dialects.diagnostics import StepError
from thalweg.dialects.types import VARIES, TensorType, bool_, float32, int32, int64, string, uint8
from thalweg.runtime.readers.examples import Feature, example, parse_examples


def _message_class():
    """tf.train.Example, built from its definition, since there is no TensorFlow here."""
    protobuf = pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    assert protobuf
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    kinds = {"BytesList": 12, "FloatList": 2, "Int64List": 3}
    for name, kind in kinds.items():
        message = file.message_type.add(name=name)
        field = message.field.add(name="value", number=1, type=kind, label=3)
        if name != "BytesList":
            field.options.packed = True
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, label) in enumerate(zip(kinds, ("bytes_list", "float_list", "int64_list"), strict=True), 1):
        feature.field.add(name=label, number=number, type=11, type_name=f".t.{name}", label=1, oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, type_name=".t.Feature", label=1)
    features.field.add(name="feature", number=1, type=11, type_name=".t.Features.FeatureEntry", label=3)
    top = file.message_type.add(name="Example")
    top.field.add(name="features", number=1, type=11, type_name=".t.Features", label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


Example = _message_class()


def serialized(**features) -> bytes:
    message = Example()
    for name, values in features.items():
        feature = message.features.feature[name]
        if isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return message.SerializeToString()


def test_the_three_kinds() -> None:
    found = example(serialized(a=[1.5, -2.0], b=[3, -4, 2**62], c=[b"x", b""]))
    assert found["a"].dtype == np.float32 and found["a"].tolist() == [1.5, -2.0]
    assert found["b"].dtype == np.int64 and found["b"].tolist() == [3, -4, 2**62]
    assert found["c"].tolist() == [b"x", b""]
    assert example(b"") == {}


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20),
       st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20), st.text(min_size=1))  # fmt: skip
def test_any_values(integers, floats, name) -> None:
    found = example(serialized(**{name: integers}, **{name + "_f": floats}))
    assert found[name].tolist() == integers and found[name + "_f"].tolist() == floats


def test_values_that_are_not_packed() -> None:
    """Older writers repeat the field for every number: field 1 as varints 5 and 6."""
    feature = b"\x1a\x04\x08\x05\x08\x06"
    entry = b"\x0a\x01k\x12" + bytes([len(feature)]) + feature
    data = b"\x0a" + bytes([len(entry) + 2]) + b"\x0a" + bytes([len(entry)]) + entry
    assert example(data)["k"].tolist() == [5, 6]


def test_features_are_stacked_and_typed() -> None:
    rows = [serialized(x=[1.0, 2.0], n=[7], s=[b"p"], flag=[1]), serialized(x=[3.0, 4.0], n=[8], s=[b"q"], flag=[0])]
    x, n, s, flag = parse_examples(rows, [
        Feature("x", TensorType((1, 2), float32)), Feature("n", TensorType((), int32)),
        Feature("s", TensorType((), string)), Feature("flag", TensorType((), bool_)),
    ])  # fmt: skip
    assert x.tolist() == [[[1, 2]], [[3, 4]]] and n.dtype == np.int32 and n.tolist() == [7, 8]
    assert s.tolist() == [b"p", b"q"] and flag.tolist() == [True, False]


def test_defaults_and_lengths_that_vary() -> None:
    rows = [serialized(tokens=[1, 2, 3]), serialized(tokens=[4], w=[0.5])]
    tokens, w, pair = parse_examples(rows, [
        Feature("tokens", TensorType((VARIES,), int64)), Feature("w", TensorType((), float32), 1.0),
        Feature("pair", TensorType((2,), uint8), 9),
    ])  # fmt: skip
    assert tokens.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert w.tolist() == [1.0, 0.5] and pair.tolist() == [[9, 9], [9, 9]]


@pytest.mark.parametrize(("name", "type_", "message"), [
    ("lable", TensorType((), int64), "feature 'lable' is missing, and has no default; did you mean 'label'"),
    ("label", TensorType((), float32), "feature 'label' holds int64, not float32"),
    ("label", TensorType((), string), "feature 'label' holds int64, not string"),
    ("label", TensorType((2,), int64), r"feature 'label' has 1 values, which do not make \[2\]"),
    ("label", TensorType((VARIES, 2), int64), r"feature 'label' has 1 values, which do not make \[\?, 2\]"),
])  # fmt: skip
def test_mistakes_are_told_with_the_number_of_the_example(name: str, type_: TensorType, message: str) -> None:
    good = {"lable": [1], "label": [1.0] if type_.dtype == float32 else [b"x"] if type_.dtype == string else [1, 2]}
    with pytest.raises(StepError, match=f"example 1: {message}"):
        parse_examples([serialized(**good), serialized(label=[3])], [Feature(name, type_)])


def test_what_is_no_example() -> None:
    for data in (b"\xff", b"\x0a\x05ab", b"\x0b", b"\x08\x01" + b"\x0a\x02\x0a\x09"):
        with pytest.raises(StepError, match=r"example 0 is no tf\.train\.Example"):
            parse_examples([data], [Feature("x", TensorType((), float32))])
