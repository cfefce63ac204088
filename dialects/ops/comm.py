"""Communication: what `partition` puts where a value goes from device to device, and what `cluster` leaves between.

`send` gives a value to the rendezvous of the step under the name of its edge, `recv` waits for it there: both are done
by the executor, whose step, frame and iteration complete the edge's name. A `cluster` is a piece of a device's part
that is compiled as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.opdef import AttrKind, Attrs, RegionType, Unsupported, define, fail
from thalweg.dialects.types import TensorType, Type, float32

_COMMUNICATES = Unsupported("speaks with another device through the rendezvous; tested by running partitioned programs")


def _expect_edge(attrs: Attrs, value: Type) -> None:
    if not isinstance(value, TensorType):
        raise fail(f"only tensors go from device to device, not {value}. Colocate its users with what makes it.")
    if attrs["source"] == attrs["target"]:
        raise fail(f"the edge '{attrs['edge']}' goes from '{attrs['source']}' to itself.")
    if attrs["compress"] and value.dtype != float32:
        raise fail(f"only f32 can be sent as 16 bits, the value is {value}. Leave out `compress`.")


def _infer_send(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    _expect_edge(attrs, operands[0])
    return []


_EDGE: dict[str, AttrKind] = {"edge": "str", "source": "str", "target": "str", "compress": "bool"}

send = define(
    "send", "value",
    doc="Gives a value to the device `target` under the name `edge`, as soon as it is there, and does not wait. "
        "`compress` keeps the upper 16 bits of each f32.",
    infer=_infer_send, attrs=_EDGE, defaults={"compress": False}, reference=_COMMUNICATES, effects="write", runs="host",
)


def _infer_recv(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    value = TensorType(tuple(attrs["shape"]), attrs["dtype"])
    _expect_edge(attrs, value)
    return [value]


recv = define(
    "recv", "",
    doc="The value that the device `source` sends under the name `edge`. Waits for it; a dead value arrives dead.",
    infer=_infer_recv, attrs={**_EDGE, "shape": "ints", "dtype": "dtype"}, defaults={"compress": False},
    reference=_COMMUNICATES, effects="read", runs="host",
)


def _infer_cluster(operands: Sequence[Type], attrs: Attrs, regions: Sequence[RegionType]) -> Sequence[Type]:
    (body,) = regions
    if body.arguments != tuple(operands):
        wanted, found = (", ".join(map(str, types)) for types in (operands, body.arguments))
        raise fail(f"the region must take ({wanted}), takes ({found}).")
    return body.yields


cluster = define(
    "cluster", "*arguments",
    doc="Ops that a backend compiles as a whole, between ops that run on the host. The region sees only its arguments, "
        "and the variables that it declares itself.",
    infer_regions=_infer_cluster, regions="body", reference=_COMMUNICATES,
)
