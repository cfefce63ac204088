"""Demand-driven code for a group of values: ask for a value at a place, get the number.

Index maps are composed on the way down to the buffers, so that broadcasts, transposes, slices and reshapes inside a
kernel cost nothing by themselves. What was asked before in the same scope is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from thalweg.backends.cpu.emit import strided
from thalweg.backends.cpu.emit.indexing import Index, Indexer
from thalweg.backends.cpu.emit.scalar import (
    Num,
    apply,
    constant,
    from_storage,
    lanes_type,
    register_type,
    store_lanes,
    to_storage,
    widen,
)
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Body, ScalarOp, Value
from thalweg.backends.cpu.kernel import storage_type

Place = tuple[Index, ...]
_NARROW = 1 << 31  # elements that can be counted in 32 bits


class Fused:
    """The values of one kernel, computed on demand.

    Args:
        w: where code is written.
        members: values that are computed in the kernel; all others are read from buffers.
        lanes: numbers per vector; 1 for scalar code.
        flat: total number of elements, where every tensor with that many elements is read and written at one row-major
            position (`(Index,)`) instead of at coordinates.
    """

    def __init__(self, w: ScopedWriter, members: Collection[Value], lanes: int = 1, flat: int = 0) -> None:
        self.w = w
        self.members = set(members)
        self.lanes = lanes
        self.flat = flat
        places = max((v.size for m in members for v in (m, *m.operands)), default=0)
        self.at = Indexer(w, lanes, "i32" if places < _NARROW else "index")
        self.mask = ""  # vector<lanes x i1> that limits loads and stores, where set
        self.used = 0  # how many lanes the mask lets through, where that is known
        self.buffers: dict[Value, str] = {}  # operands in the order of their first use
        self.loads: list[tuple[Value, Place, int]] = []  # what was read where, in which phase
        self.phase = 0
        self.kept: dict[Value, str] = {}  # members that wait in a result's buffer since an earlier pass

    def limit(self, used: int) -> None:
        """From here on, loads and stores touch the first `used` lanes only; all lanes for 0 and for all of them."""
        limited = 0 < used < self.lanes
        self.used = used if limited else 0
        self.mask = self.w.hoisted(f"vector.constant_mask [{used}] : {self._mask_type}", "mask") if limited else ""

    # Asking.

    def define(self, value: Value, place: Sequence[Index], number: Num) -> None:
        """From here to the end of the scope, `value` at `place` is `number` (an accumulator, the result of a
        reduction).
        """
        self.w.remember((value.id, tuple(place)), number)

    def get(self, value: Value, place: Sequence[Index]) -> Num:
        """The number of `value` at `place`: one, or a vector where the place differs from lane to lane."""
        place = self._normal(value, tuple(place))
        key = (value.id, place)
        known = self.w.recall(key)
        if known is None:
            known = self._compute(value, place)
            self.w.remember(key, known)
        assert isinstance(known, Num)
        return known

    def _normal(self, value: Value, place: Place) -> Place:
        """Dimensions of extent 1 are read at 0."""
        if self._is_flat(value):
            return place
        return tuple(Index(0) if extent == 1 else index for index, extent in zip(place, value.shape, strict=True))

    def _is_flat(self, value: Value) -> bool:
        return bool(self.flat) and value.size == self.flat

    def _compute(self, value: Value, place: Place) -> Num:
        if value.splat is not None:
            return constant(self.w, value.splat, value.element)
        if value.kind == "scalar":
            assert value.scalar is not None
            return apply(self.w, value.scalar, [self.get(operand, ()) for operand in value.operands])[0]
        if value not in self.members:
            return self.load(value, place)
        if value in self.kept:
            return self._read(value, self.kept[value], place, self.w.ordered)
        if value.kind == "map":
            return self._map(value, place)
        if value.kind == "reshape":
            (source,) = value.operands
            flat = self._is_flat(value)
            return self.get(source, place if flat else self.at.reshape(place, value.shape, source.shape))
        if value.kind == "slice":
            return self.get(value.operands[0], self.box(value, place))
        raise AssertionError(f"{value} is asked at {place}, where its kernel has not defined it")

    def box(self, value: Value, place: Place) -> Place:
        """Where the element at `place` of the box of a slice or insert lies in the whole tensor."""
        places = []
        for index, stride, entry in zip(place, value.strides, value.offsets, strict=True):
            offset = Index(entry) if isinstance(entry, int) else Index(self.get(entry, ()).name)
            places.append(self.at.add(self.at.scale(index, stride), offset))
        return tuple(places)

    # Maps.

    def loops(self, value: Value, place: Place) -> list[Index]:
        """The loop indices of a map or reduction's parallel loops at which the element at `place` is computed."""
        assert value.generic is not None
        dims = [Index(0)] * len(value.generic.extents)
        for expression, index in zip(value.generic.result_maps[value.result_index], place, strict=True):
            if expression.dim is not None:
                dims[expression.dim] = index
        return dims

    def _map(self, value: Value, place: Place) -> Num:
        assert value.generic is not None
        dims = [] if self._is_flat(value) else self.loops(value, place)
        numbers = self.body(value, dims, place)
        return numbers[value.result_index]

    def body(
        self,
        value: Value,
        dims: Sequence[Index],
        place: Place = (),
        running: Sequence[Num] = (),
        body: Body | None = None,
    ) -> list[Num]:
        """The numbers that a generic's body yields at loop indices `dims`.

        Args:
            place: the flat position, for values that are read at one.
            running: the values of the body's arguments after the inputs (the accumulators of a reduction).
            body: a part of the generic's body to evaluate instead of all of it.
        """
        generic = value.generic
        assert generic is not None
        body = body or generic.body
        env: dict[int, Num | Index] = {generic.inputs + k: number for k, number in enumerate(running)}

        def number(index: int) -> Num | Index:
            known = env.get(index)
            if known is None:
                operand = value.operands[index]
                known = env[index] = self.get(operand, self._input_place(value, index, dims, place))
            return known

        first = len(value.operands) - len(generic.scalars)
        for position, index in enumerate(generic.scalars):
            env[index] = self.get(value.operands[first + position], ())
        for op in body.ops:
            self._op(op, [number(i) for i in op.operands], dims, env, value)
        return [self._as_number(number(i)) for i in body.yields]

    def _input_place(self, value: Value, index: int, dims: Sequence[Index], place: Place) -> Place:
        assert value.generic is not None
        if self.flat and not dims:
            return place if self._is_flat(value.operands[index]) else (Index(0),) * len(value.operands[index].shape)
        return tuple(self.at.affine(expression, dims) for expression in value.generic.maps[index])

    def _op(
        self,
        op: ScalarOp,
        operands: list[Num | Index],
        dims: Sequence[Index],
        env: dict[int, Num | Index],
        value: Value,
    ) -> None:
        """Evaluate one op of a body into `env`; affine index arithmetic stays symbolic."""
        if op.name == "linalg.index":
            assert op.dim is not None
            env[op.results[0]] = dims[op.dim]
        elif op.name == "arith.constant" and op.types == ("index",):
            env[op.results[0]] = Index(int(op.attributes))
        elif op.tensor is not None:
            place = tuple(self._as_index(operand) for operand in operands)
            env[op.results[0]] = self.get(self._captured(value, op.tensor), place)
        elif op.name in ("arith.addi", "arith.subi") and all(isinstance(o, Index) for o in operands):
            left, right = (self._as_index(o) for o in operands)
            env[op.results[0]] = self.at.add(left, right) if op.name == "arith.addi" else self.at.sub(left, right)
        elif _numbers_lanes(op) and isinstance(operands[0], Index) and operands[0].is_line:
            env[op.results[0]] = Num(self.at.line(operands[0], op.types[0]), op.types[0], self.lanes)
        elif op.name == "arith.divf" and self._is_scaling(op, operands, value):
            env[op.results[0]] = self._scaled(op, *map(self._as_number, operands))
        elif op.regions:
            self._branches(op, self._as_number(operands[0]), dims, env, value)
        else:
            results = apply(self.w, op, [self._as_number(operand) for operand in operands])
            env.update(zip(op.results, results, strict=True))

    def _is_scaling(self, op: ScalarOp, operands: Sequence[Num | Index], value: Value) -> bool:
        """Is a vector divided by one number that scales a row: a root of a mean square, a sum of exponentials?"""
        numerator, divisor = operands
        if not isinstance(numerator, Num) or not isinstance(divisor, Num) or value.element != "f32":
            return False
        apart = numerator.lanes > 1 == divisor.lanes and op.operands[1] < len(value.operands)
        return apart and scales_rows(value.operands[op.operands[1]])

    def _scaled(self, op: ScalarOp, numerator: Num, divisor: Num) -> Num:
        """Times the inverse: a division of a vector takes as long as ten other ops, and this one is done once a row."""
        (inverse,) = apply(self.w, op, [constant(self.w, "1.0", divisor.element), divisor])
        return apply(self.w, replace(op, name="arith.mulf"), [numerator, inverse])[0]

    def _captured(self, value: Value, position: int) -> Value:
        generic = value.generic
        assert generic is not None
        first = len(value.operands) - len(generic.scalars) - generic.captures
        return value.operands[first + position]

    def _branches(
        self, op: ScalarOp, condition: Num, dims: Sequence[Index], env: dict[int, Num | Index], value: Value
    ) -> None:
        """`scf.if` with results, in scalar code only."""
        assert self.lanes == 1, "a branch in a scalar body needs scalar code"
        types = ", ".join(register_type(t) for t in op.types)
        base = self.w.fresh("if")
        heads = (f"{base}:{len(op.results)} = scf.if {condition.name} -> ({types})", "else")
        for head, branch in zip(heads, op.regions, strict=True):
            with self.w.scope(head, fence=True):
                numbers = self._branch(branch, dims, dict(env), value)
                self.w.emit(f"scf.yield {', '.join(n.name for n in numbers)} : {types}")
        self.w.define(base)
        for position, (index, element) in enumerate(zip(op.results, op.types, strict=True)):
            env[index] = Num(f"{base}#{position}", element)

    def _branch(self, body: Body, dims: Sequence[Index], env: dict[int, Num | Index], value: Value) -> list[Num]:
        for op in body.ops:
            self._op(op, [env[i] for i in op.operands], dims, env, value)
        return [self._as_number(env[i]) for i in body.yields]

    def _as_number(self, number: Num | Index) -> Num:
        if isinstance(number, Num):
            return number
        if number.uniform:
            return Num(self.w.ssa(number.base), "index")
        return Num(self.at.vector(number), "index", self.lanes)

    def _as_index(self, number: Num | Index) -> Index:
        if isinstance(number, Index):
            return number
        return Index(number.name) if number.lanes == 1 else Index(vector=number.name)

    # Memory.

    def buffer(self, value: Value) -> str:
        """The parameter that holds an operand."""
        return self.buffers.setdefault(value, f"%in{len(self.buffers)}")

    def memory(self, value: Value) -> tuple[str, tuple[int, ...]]:
        """The memref type through which the kernel sees a value, and its shape."""
        shape = (self.flat,) if self._is_flat(value) else value.shape
        return "memref<" + "".join(f"{n}x" for n in shape) + storage_type(value.element) + ">", shape

    def load(self, value: Value, place: Place) -> Num:
        """Read an operand's buffer."""
        self.loads.append((value, place, self.phase))
        return self._read(value, self.buffer(value), place, self.w.op)

    def _read(self, value: Value, buffer: str, place: Place, write: Callable[[str], str]) -> Num:
        """Read a value at a place of a buffer; `write` writes the op."""
        memref, shape = self.memory(value)
        element = storage_type(value.element)
        if all(index.uniform for index in place):
            name = write(f"memref.load {buffer}[{self._bases(place)}] : {memref}")
            return from_storage(self.w, name, value.element, 1)
        kind = lanes_type(element, self.lanes)
        if not _contiguous(place):
            position = self.at.linear(place, shape)
            if position.is_line and (position.step == 1 or self._picks(position.step)):
                buffer, memref, place = *self._line(value, buffer), (position,)
        if len(place) == 1 and self._picks(place[0].step):
            used = self.used or self.lanes
            line, start = (buffer, memref), place[0]
            name = strided.load(self.w, write, line, start.base, start.step, element, self.lanes, used)
        elif _contiguous(place):
            where = f"{buffer}[{self._bases(place)}]"
            if self.mask:
                zero = self._zero(element)
                name = write(
                    f"vector.maskedload {where}, {self.mask}, {zero} : {memref}, {self._mask_type}, {kind} into {kind}"
                )
            else:
                name = write(f"vector.load {where} : {memref}, {kind}")
        else:
            bases, offsets = self._scattered(place, shape)
            name = write(
                f"vector.gather {buffer}[{bases}] [{offsets}], {self._all_lanes()}, {self._zero(element)} : "
                f"{memref}, vector<{self.lanes}xindex>, {self._mask_type}, {kind} into {kind}"
            )
        return from_storage(self.w, name, value.element, self.lanes)

    def _picks(self, step: int) -> bool:
        """Whether lanes `step` places apart are picked from vectors that lie side by side."""
        return strided.is_near(step, self.lanes) and bool(self.used or not self.mask)

    def _line(self, value: Value, buffer: str) -> tuple[str, str]:
        """A buffer as one line, and its type then."""
        memref, shape = self.memory(value)
        flat = f"memref<{value.size}x{storage_type(value.element)}>"
        if len(shape) == 1:
            return buffer, memref
        dims = ", ".join(map(str, range(len(shape))))
        return self.w.op(f"memref.collapse_shape {buffer} [[{dims}]] : {memref} into {flat}"), flat

    def put(self, stores: Sequence[Value], buffers: Sequence[str], place: Place) -> None:
        """Compute all results at a place, then write them, and begin anew."""
        numbers = [self.get(value, place) for value in stores]
        for value, buffer, number in zip(stores, buffers, numbers, strict=True):
            self.store(value, buffer, place, number)
        self.phase += 1

    def store(self, value: Value, buffer: str, place: Place, number: Num) -> None:
        """Write a result's buffer."""
        memref, shape = self.memory(value)
        place = self._normal(value, place)
        if all(index.uniform for index in place):
            assert number.lanes == 1, f"a vector of {value} is stored at one place"
            self.w.emit(f"memref.store {to_storage(self.w, number)}, {buffer}[{self._bases(place)}] : {memref}")
            return
        name = to_storage(self.w, widen(self.w, number, self.lanes))
        kind = lanes_type(storage_type(value.element), self.lanes)
        if not _contiguous(place) and any(index.part or index.is_line for index in place):
            position = self.at.linear(place, shape)
            if position.is_line and position.step == 1:
                buffer, memref, place = *self._line(value, buffer), (position,)
        if not _contiguous(place):
            bases, offsets = self._scattered(place, shape)
            self.w.emit(
                f"vector.scatter {buffer}[{bases}] [{offsets}], {self._all_lanes()}, {name} : "
                f"{memref}, vector<{self.lanes}xindex>, {self._mask_type}, {kind}"
            )
        else:
            where, element = f"{buffer}[{self._bases(place)}]", storage_type(value.element)
            store_lanes(self.w, name, element, self.lanes, where, memref, self.mask, self.used)

    @property
    def _mask_type(self) -> str:
        return f"vector<{self.lanes}xi1>"

    def _all_lanes(self) -> str:
        return self.mask or self.w.hoisted(f"arith.constant dense<true> : {self._mask_type}", "all")

    def _zero(self, element: str) -> str:
        zero = "0.0" if "f" in element else "0"
        return self.w.hoisted(f"arith.constant dense<{zero}> : {lanes_type(element, self.lanes)}", "zero")

    def _bases(self, place: Place) -> str:
        return ", ".join(self.w.ssa(index.base) for index in place)

    def _scattered(self, place: Place, shape: Sequence[int]) -> tuple[str, str]:
        """Base indices and a vector of element offsets for places that are not consecutive."""
        bases = [Index(0) if index.vector else Index(index.base) for index in place]
        rests = [index if index.vector else Index(0, index.step) for index in place]
        return self._bases(tuple(bases)), self.at.vector(self.at.linear(rests, shape))


def scales_rows(value: Value) -> bool:
    """Is a value, behind broadcasts, a square root or a sum of exponentials?

    Nobody counts on x / sqrt(v) to the last bit, as one may on x / max(x), which is 1 somewhere.
    """
    while value.operands and (value.kind == "reshape" or (value.kind == "map" and not _ops(value))):
        value = value.operands[0]
    if value.kind == "reduce":
        summed, ops = value.operands[0], _ops(value)
        return [op.name for op in ops] == ["arith.addf"] and any(op.name == "math.exp" for op in _ops(summed))
    return any(op.name == "math.sqrt" for op in _ops(value)[-1:])


def _ops(value: Value) -> tuple[ScalarOp, ...]:
    return value.generic.body.ops if value.generic is not None else ()


def _contiguous(place: Place) -> bool:
    """Do the lanes lie side by side: unit steps along the last dimension, one place along the others?"""
    return bool(place) and not place[-1].vector and place[-1].step == 1 and all(i.uniform for i in place[:-1])


def _numbers_lanes(op: ScalarOp) -> bool:
    """Does an op turn indices into integers in whose type vectors of them can be counted up?"""
    return op.name == "arith.index_cast" and op.types[0] in ("i32", "i64")
