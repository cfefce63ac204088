"""What steps meet at: queues, barriers, accumulators, mutexes. They live beside the program; a handle names one.

All of it runs on the host, in `runtime/queues/`, and waits without holding a thread. Operations on one queue have no
order among each other but that of data and control dependencies. A component's extent that varies from element to
element is `?` in the handle's type; an op that takes elements out gets numbers for them, open extents usually, in
`extents`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thalweg.dialects.opdef import AttrKind, Attrs, Infer, Unsupported, define, fail
from thalweg.dialects.types import (
    VARIES,
    ResourceType,
    TensorType,
    Type,
    bool_,
    int32,
    int64,
    string,
    types_from_text,
)

_MEETS = Unsupported("other steps decide what it gives; the kernels are tested in tests/unit/runtime/queues")
_NAMED: Mapping[str, AttrKind] = {"name": "str", "container": "str"}
COUNT = TensorType((), int32)
NUMBER = TensorType((), int64)

DISCIPLINES = ("fifo", "shuffle", "padding", "priority", "bucket")


def expect_resource(value: Type, kind: str) -> ResourceType:
    """The operand is a handle of that kind."""
    if not isinstance(value, ResourceType) or value.kind != kind:
        raise fail(f"the first operand must be a handle of kind {kind}, got {value}.")
    return value


def filled(components: Sequence[TensorType], extents: Sequence[int]) -> list[TensorType]:
    """The components with numbers in the place of extents that vary, taken from `extents` in order."""
    numbers = list(extents)
    needed = sum(t.shape.count(VARIES) for t in components)
    if needed != len(numbers):
        raise fail(f"takes {needed} extents for ({', '.join(map(str, components))}), got {len(numbers)}.")
    return [t.with_shape(tuple(numbers.pop(0) if n == VARIES else n for n in t.shape)) for t in components]


def rows_of(count: int, components: Sequence[TensorType]) -> list[TensorType]:
    """The components with a new first dimension."""
    return [t.with_shape((count, *t.shape)) for t in components]


def expect_fits(value: Type, wanted: TensorType, number: int) -> None:
    """`value` has the type of component `number`, but for extents that vary."""
    if (
        not isinstance(value, TensorType)
        or value.dtype != wanted.dtype
        or value.rank != wanted.rank
        or any(w not in (VARIES, n) for n, w in zip(value.shape, wanted.shape, strict=True))
    ):
        shown = str(wanted).replace(str(VARIES), "?")
        raise fail(f"component {number} is {shown}, the value given is {value}.")


def _infer_queue(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    if attrs["discipline"] not in DISCIPLINES:
        raise fail(f"the discipline must be one of {', '.join(DISCIPLINES)}, got '{attrs['discipline']}'.")
    if attrs["capacity"] < 1 or attrs["least"] < 0:
        given = f"{attrs['capacity']} and {attrs['least']}"
        raise fail(f"the capacity must be at least 1 and `least` not negative, got {given}.")
    return [ResourceType("queue", types_from_text(attrs["types"]))]


queue_handle = define(
    "queue_handle", "",
    doc="The queue called `name` in a container. `discipline` is fifo, shuffle (`least` elements stay behind), "
        "padding, priority (by the first component) or bucket (by the first component, which is a length; `boundaries` "
        "part the buckets). `types` are those of an element's components, such as 'f32[4,?]; i32[]'.",
    infer=_infer_queue,
    attrs={**_NAMED, "discipline": "str", "capacity": "int", "types": "str", "least": "int", "seed": "int",
           "boundaries": "ints"},
    defaults={"container": "", "least": 0, "seed": -1, "boundaries": ()},
    reference=_MEETS, runs="host",
)  # fmt: skip


def _expect_values(types: Sequence[TensorType], values: Sequence[Type]) -> None:
    if len(types) != len(values):
        raise fail(f"an element has {len(types)} components, {len(values)} were given.")
    for number, (value, wanted) in enumerate(zip(values, types, strict=True)):
        expect_fits(value, wanted, number)


def _infer_enqueue(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    _expect_values(expect_resource(operands[0], "queue").components, operands[1:])
    return []


def _infer_enqueue_many(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    components = expect_resource(operands[0], "queue").components
    _expect_values(rows_of(VARIES, components), operands[1:])
    counts = {t.shape[0] for t in operands[1:] if isinstance(t, TensorType)}
    if len(counts) > 1:
        raise fail(f"every value must have one row per element, got {', '.join(map(str, operands[1:]))}.")
    return []


_WAITS: Mapping[str, AttrKind] = {"timeout": "float"}

enqueue = define("enqueue", "queue *values", doc="Add one element. Waits while the queue is full; `timeout` is in "
                 "seconds, 0 for none.", infer=_infer_enqueue, attrs=_WAITS, defaults={"timeout": 0.0},
                 reference=_MEETS, effects="write", runs="host")  # fmt: skip
enqueue_many = define("enqueue_many", "queue *values", doc="Add the rows of the values, one element a row.",
                      infer=_infer_enqueue_many, attrs=_WAITS, defaults={"timeout": 0.0}, reference=_MEETS,
                      effects="write", runs="host")  # fmt: skip


def _infer_dequeue(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [*filled(expect_resource(operands[0], "queue").components, attrs["extents"])]


def _infer_dequeue_many(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    components = expect_resource(operands[0], "queue").components
    return [*rows_of(attrs["count"], filled(components, attrs["extents"]))]


def _infer_dequeue_up_to(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    components = expect_resource(operands[0], "queue").components
    rows, *inner = attrs["extents"]
    return [*rows_of(rows, filled(components, inner))]


_TAKES: Mapping[str, AttrKind] = {"extents": "ints", **_WAITS}
_TAKES_DEFAULTS = {"extents": (), "timeout": 0.0}

dequeue = define("dequeue", "queue", doc="Take the next element. Waits while there is none.", infer=_infer_dequeue,
                 attrs=_TAKES, defaults=_TAKES_DEFAULTS, reference=_MEETS, effects="write", runs="host")  # fmt: skip
dequeue_many = define(
    "dequeue_many", "queue", doc="Take `count` elements, all or none, stacked along a new first dimension.",
    infer=_infer_dequeue_many, attrs={"count": "int", **_TAKES}, defaults=_TAKES_DEFAULTS, reference=_MEETS,
    effects="write", runs="host",
)  # fmt: skip
dequeue_up_to = define(
    "dequeue_up_to", "queue",
    doc="As `dequeue_many`; of a closed queue what is left, if it is less. The first of the extents is how many.",
    infer=_infer_dequeue_up_to, attrs={"count": "int", **_TAKES}, defaults=_TAKES_DEFAULTS, reference=_MEETS,
    effects="write", runs="host",
)  # fmt: skip


def _infer_nothing(kind: str) -> Infer:
    def infer(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
        expect_resource(operands[0], kind)
        return []

    return infer


def _infer_one(kind: str, result: TensorType) -> Infer:
    def infer(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
        expect_resource(operands[0], kind)
        return [result]

    return infer


queue_close = define(
    "queue_close", "queue",
    doc="Let the queue take no more elements. Enqueues that wait still finish, unless `cancel_pending`.",
    infer=_infer_nothing("queue"), attrs={"cancel_pending": "bool"}, defaults={"cancel_pending": False},
    reference=_MEETS, effects="write", runs="host",
)  # fmt: skip
queue_size = define("queue_size", "queue", doc="How many elements are in the queue.",
                    infer=_infer_one("queue", COUNT), reference=_MEETS, effects="read", runs="host")  # fmt: skip
queue_is_closed = define("queue_is_closed", "queue", doc="Whether the queue was closed.",
                         infer=_infer_one("queue", TensorType((), bool_)), reference=_MEETS, effects="read",
                         runs="host")  # fmt: skip


# Accumulators


def _infer_accumulator(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    types = types_from_text(attrs["types"])
    if len(types) != 1 or (attrs["sparse"] and not types[0].rank):
        raise fail(f"takes one type, and one with rows if it is sparse; got '{attrs['types']}'.")
    reductions = ("mean", "sum", "row_mean") if attrs["sparse"] else ("mean", "sum")
    if attrs["reduction"] not in reductions:
        raise fail(f"the reduction must be one of {', '.join(reductions)}, got '{attrs['reduction']}'.")
    return [ResourceType("sparse_accumulator" if attrs["sparse"] else "accumulator", types)]


accumulator_handle = define(
    "accumulator_handle", "",
    doc="The accumulator called `name`: gradients of one type, or of rows of a table if it is `sparse`. `reduction` is "
        "mean, sum or, of a sparse one, row_mean.",
    infer=_infer_accumulator, attrs={**_NAMED, "types": "str", "sparse": "bool", "reduction": "str"},
    defaults={"container": "", "sparse": False, "reduction": "mean"}, reference=_MEETS, runs="host",
)  # fmt: skip


def _expect_step(value: Type) -> None:
    if value != NUMBER:
        raise fail(f"the step must be {NUMBER}, got {value}.")


def _infer_apply(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    handle, gradient, step = operands
    expect_fits(gradient, expect_resource(handle, "accumulator").components[0], 0)
    _expect_step(step)
    return []


accumulator_apply = define(
    "accumulator_apply", "accumulator gradient step",
    doc="Add a gradient that was computed at `step`; it is dropped if the accumulator is further.",
    infer=_infer_apply, reference=_MEETS, effects="write", runs="host",
)  # fmt: skip


def _infer_apply_rows(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    handle, indices, values, step = operands
    (table,) = expect_resource(handle, "sparse_accumulator").components
    if not isinstance(indices, TensorType) or indices.rank != 1 or not indices.dtype.is_integer:
        raise fail(f"the indices must be a vector of integers, got {indices}.")
    expect_fits(values, table.with_shape((indices.shape[0], *table.shape[1:])), 0)
    _expect_step(step)
    return []


accumulator_apply_rows = define(
    "accumulator_apply_rows", "accumulator indices values step",
    doc="Add the gradient of some rows, computed at `step`; it is dropped if the accumulator is further.",
    infer=_infer_apply_rows, reference=_MEETS, effects="write", runs="host",
)  # fmt: skip


def _infer_take(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [*filled(expect_resource(operands[0], "accumulator").components, attrs["extents"])]


def _infer_take_rows(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    (table,) = expect_resource(operands[0], "sparse_accumulator").components
    if len(attrs["extents"]) != 1:
        raise fail(f"takes one extent, the number of rows, got {list(attrs['extents'])}.")
    rows = attrs["extents"][0]
    return [TensorType((rows,), int64), table.with_shape((rows, *table.shape[1:]))]


accumulator_take = define(
    "accumulator_take", "accumulator",
    doc="All gradients that are in, reduced, once there are `required` of them; then it is empty and a step further.",
    infer=_infer_take, attrs={"required": "int", **_TAKES}, defaults=_TAKES_DEFAULTS, reference=_MEETS, effects="write",
    runs="host",
)  # fmt: skip
accumulator_take_rows = define(
    "accumulator_take_rows", "accumulator",
    doc="As `accumulator_take`, of a sparse one: the indices, each once and in order, and their rows; the extent is "
        "how many there are.",
    infer=_infer_take_rows, attrs={"required": "int", **_TAKES}, defaults=_TAKES_DEFAULTS, reference=_MEETS,
    effects="write", runs="host",
)  # fmt: skip


def _expect_any_accumulator(value: Type) -> None:
    if not isinstance(value, ResourceType) or not value.kind.endswith("accumulator"):
        raise fail(f"the first operand must be an accumulator, got {value}.")


def _infer_accumulator_count(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    _expect_any_accumulator(operands[0])
    return [COUNT]


def _infer_set_step(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    _expect_any_accumulator(operands[0])
    _expect_step(operands[1])
    return []


accumulator_count = define("accumulator_count", "accumulator", doc="How many gradients are in.",
                           infer=_infer_accumulator_count, reference=_MEETS, effects="read", runs="host")  # fmt: skip
accumulator_set_step = define("accumulator_set_step", "accumulator step",
                              doc="Drop gradients of steps before `step` from now on.", infer=_infer_set_step,
                              reference=_MEETS, effects="write", runs="host")  # fmt: skip


# Barriers


def _infer_barrier(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    if attrs["key"] not in (string, int64):
        raise fail(f"keys are string or int64, got {attrs['key'].name}.")
    return [ResourceType("barrier", (TensorType((), attrs["key"]), *types_from_text(attrs["types"])))]


barrier_handle = define(
    "barrier_handle", "",
    doc="The barrier called `name`: the components of an element come in one by one, under a key.",
    infer=_infer_barrier, attrs={**_NAMED, "types": "str", "key": "dtype"}, defaults={"container": "", "key": string},
    reference=_MEETS, runs="host",
)  # fmt: skip


def _infer_insert(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    handle, keys, values = operands
    key, *components = expect_resource(handle, "barrier").components
    if not 0 <= attrs["component"] < len(components):
        raise fail(f"there is no component {attrs['component']}, an element has {len(components)}.")
    if not isinstance(keys, TensorType) or keys.rank != 1 or keys.dtype != key.dtype:
        raise fail(f"the keys must be a vector of {key.dtype.name}, got {keys}.")
    wanted = components[attrs["component"]]
    expect_fits(values, wanted.with_shape((keys.shape[0], *wanted.shape)), attrs["component"])
    return []


barrier_insert = define(
    "barrier_insert", "barrier keys values", doc="Give one component of the elements under the keys.",
    infer=_infer_insert, attrs={"component": "int"}, reference=_MEETS, effects="write", runs="host",
)  # fmt: skip


def _infer_barrier_take(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    components = expect_resource(operands[0], "barrier").components
    rows, *inner = (attrs["count"], *attrs["extents"]) if not attrs["partial"] else attrs["extents"]
    return [*rows_of(rows, [NUMBER, *filled(components, inner)])]


barrier_take = define(
    "barrier_take", "barrier",
    doc="`count` complete elements, stacked: the order in which their keys came, the keys, and each component. "
        "`partial`: of a closed barrier what is left, if it is less; the first of the extents is how many.",
    infer=_infer_barrier_take, attrs={"count": "int", "partial": "bool", **_TAKES},
    defaults={"partial": False, **_TAKES_DEFAULTS}, reference=_MEETS, effects="write", runs="host",
)  # fmt: skip
barrier_close = define(
    "barrier_close", "barrier",
    doc="Let the barrier take no new keys. Elements may still be completed, unless `cancel_pending`.",
    infer=_infer_nothing("barrier"), attrs={"cancel_pending": "bool"}, defaults={"cancel_pending": False},
    reference=_MEETS, effects="write", runs="host",
)  # fmt: skip
barrier_size = define(
    "barrier_size", "barrier", doc="How many elements are complete, or how many keys still lack a component.",
    infer=_infer_one("barrier", COUNT), attrs={"complete": "bool"}, defaults={"complete": True}, reference=_MEETS,
    effects="read", runs="host",
)  # fmt: skip


# Mutexes


def _infer_mutex(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [ResourceType("mutex")]


mutex_handle = define("mutex_handle", "", doc="The mutex called `name`: held by one at a time.", infer=_infer_mutex,
                      attrs=_NAMED, defaults={"container": ""}, reference=_MEETS, runs="host")  # fmt: skip
mutex_acquire = define(
    "mutex_acquire", "mutex",
    doc="Wait until the mutex is free, and hold it; gives the number to release it with. A step that fails lets go.",
    infer=_infer_one("mutex", NUMBER), attrs=_WAITS, defaults={"timeout": 0.0}, reference=_MEETS, effects="write",
    runs="host",
)  # fmt: skip


def _infer_release(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    expect_resource(operands[0], "mutex")
    if operands[1] != NUMBER:
        raise fail(f"the holder must be {NUMBER}, as mutex_acquire gives it, got {operands[1]}.")
    return []


mutex_release = define("mutex_release", "mutex holder", doc="Let the next one have the mutex.", infer=_infer_release,
                       reference=_MEETS, effects="write", runs="host")  # fmt: skip
