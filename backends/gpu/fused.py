"""Demand-driven code for the values of one kernel: ask for a value at a place, get the expression.

Places are composed on the way down to the buffers, so that broadcasts, transposes, slices and reshapes inside a kernel
cost nothing by themselves. What was asked before in the same scope is remembered.
"""

from __future__ import annotations

import linecache
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Body, ScalarOp, Value
from thalweg.backends.cpu.program import storage
from thalweg.backends.gpu.index import ZERO, Index, Symbol, affine, coordinates, linear, of
from thalweg.backends.gpu.scalar import Num, apply, as_read, as_stored, literal
from thalweg.backends.gpu.writer import Writer, is_name
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.location import Where, where_of

Place = tuple[Index, ...]
LONG = 60  # characters of an expression that is still put into the one that uses it


class Fused:
    """The values of one kernel, computed on demand.

    Args:
        w: where code is written.
        group: its members are computed in the kernel; all other values are read from buffers.
        masks: the name of each axis's mask; an axis whose tiles all are full has none.
        renamed: what values that members read are called outside of the group.
    """

    def __init__(
        self, w: Writer, group: Group, masks: dict[str, str], renamed: Mapping[Value, Value] | None = None
    ) -> None:
        self.w = w
        self.members = group.members
        self.named = set(group.stores)
        self.masks, self.renamed = masks, dict(renamed or {})
        self.operands: dict[Value, str] = {}  # in the order of their first use
        self.loads: list[tuple[Value, Index]] = []
        self.found: list[tuple[Value, Place]] = []  # buffers' elements, where they were asked for
        self.written: dict[Value, Index] = {}  # where each result is stored
        self.lines: dict[str, None] = {}  # of the user's program
        self.eviction: tuple[str, int] = ("", 0)  # a policy of caches, for buffers of so many elements or more
        self.guards: list[Num] = []  # conditions under which anything is read

    def define(self, value: Value, place: Place, number: Num) -> None:
        """From here to the end of the scope, `value` at `place` is `number`."""
        self.w.remember((value.id, _normal(value, place)), number)

    def get(self, value: Value, place: Place) -> Num:
        """The number of `value` at `place`."""
        place = _normal(value, place)
        known = self.w.recall((value.id, place))
        if known is None:
            known = self._compute(value, place)
            self.w.remember((value.id, place), known)
        assert isinstance(known, Num)
        return known

    def _compute(self, value: Value, place: Place) -> Num:
        if value.splat is not None:
            return literal(value.splat, value.element)
        if value.kind == "scalar":
            assert value.scalar is not None
            return self._apply(value.scalar, [self.get(operand, ()) for operand in value.operands], value)
        if value not in self.members:
            return self.load(value, place)
        if value.kind == "map":
            return self._map(value, place)
        if value.kind == "reshape":
            (source,) = value.operands
            return self.get(source, coordinates(linear(place, value.shape), source.shape))
        if value.kind == "slice":
            return self.get(value.operands[0], self.box(value, place))
        raise not_yet(value, f"{value.op_name} where it is read")

    def box(self, value: Value, place: Place) -> Place:
        """The place in the whole of a place in a box (of a slice, or of an insert)."""
        places = []
        for index, stride, entry in zip(place, value.strides, value.offsets, strict=True):
            offset = Index((), entry) if isinstance(entry, int) else self._as_index(self.get(entry, ()), 2**31)
            places.append(index * stride + offset)
        return tuple(places)

    # Places that may lie outside of a tensor.

    def inside(self, place: Place, low: Sequence[int], high: Sequence[int]) -> Num | None:
        """Is low <= place < high along every dimension? None where it cannot be otherwise."""
        checks, axes = [], frozenset[str]()
        for index, first, end in zip(place, low, high, strict=True):
            text = ""
            if index.minimum < first or index.maximum >= end:
                text = self.w.index(index)
                text = text if text.isidentifier() else self.w.assign(text, "at")
                axes |= index.axes
            if index.minimum < first:
                checks.append(f"({text} >= {first})")
            if index.maximum >= end:
                checks.append(f"({text} < {end})")
        if not checks:
            return None
        name = self.w.assign(" & ".join(checks) if len(checks) > 1 else checks[0][1:-1], "inside")
        return Num(name, "i1", axes)

    @contextmanager
    def guarded(self, condition: Num | None) -> Iterator[None]:
        """Nothing is read where a condition does not hold; what is computed meanwhile is forgotten after it."""
        if condition is None:
            yield
            return
        self.guards.append(condition)
        with self.w.aside():
            yield
        self.guards.pop()

    # Maps.

    def _map(self, value: Value, place: Place) -> Num:
        generic = value.generic
        assert generic is not None
        loops = [ZERO] * len(generic.extents)
        for expression, index in zip(generic.result_maps[value.result_index], place, strict=True):
            if expression.dim is not None:
                loops[expression.dim] = index
        number = self.body(value, loops, generic.body)[value.result_index]
        once = len(value.users) == 1 and value not in self.named and len(number.text) <= LONG
        if once or number.constant or is_name(number.text):
            return number
        return replace(number, text=self.w.assign(number.text), atom=True)

    def body(
        self, value: Value, loops: Sequence[Index], body: Body, bound: Mapping[int, Num] | None = None
    ) -> list[Num]:
        """The expressions that a generic's body yields at loop indices; what a body uses once is not named.

        Args:
            bound: scalars of the body that are known: the running numbers of a reduction.
        """
        generic = value.generic
        assert generic is not None
        env: dict[int, Num] = dict(bound or {})
        first = len(value.operands) - len(generic.scalars)
        for position, index in enumerate(generic.scalars):
            env[index] = self.get(value.operands[first + position], ())
        uses = Counter(index for op in body.ops for index in op.operands)

        def number(index: int) -> Num:
            known = env.get(index)
            if known is None:
                place = tuple(affine(expression, loops) for expression in generic.maps[index])
                known = self.get(value.operands[index], place)
                if uses[index] > 1 and not known.atom:
                    known = replace(known, text=self.w.assign(known.text), atom=True)
                env[index] = known
            return known

        read = (*(i for op in body.ops for i in op.operands), *body.yields)
        for operand in dict.fromkeys(i for i in read if i < generic.inputs):
            number(operand)  # before the comment with the line that uses them
        self.comment(value)
        for op in body.ops:
            (result,) = op.results if len(op.results) == 1 else (None,)
            if op.name == "linalg.index":
                assert op.dim is not None and result is not None
                env[result] = self._as_number(loops[op.dim])
                continue
            if op.regions:
                env.update(zip(op.results, self._if(value, op, number, env), strict=True))
                continue
            numbers = [number(i) for i in op.operands]
            if op.tensor is not None:
                found = self._extract(value, op, numbers)
            else:
                found = self._apply(op, numbers, value)
            assert result is not None
            env[result] = self._named_if_used(found, uses[result])
        return [number(i) for i in body.yields]

    def evaluate(self, body: Body, numbers: Sequence[Num]) -> list[Num] | None:
        """What a body yields for its arguments (the regions of sort and scatter); None if an op has no Triton code."""
        uses = Counter(index for op in body.ops for index in op.operands)
        env = {index: self._named_if_used(n, uses[index]) for index, n in enumerate(numbers)}
        for op in body.ops:
            found = apply(self.w, op, [env[i] for i in op.operands])
            if found is None:
                return None
            env[op.results[0]] = self._named_if_used(found, uses[op.results[0]])
        return [env[i] for i in body.yields]

    def _named_if_used(self, number: Num, uses: int) -> Num:
        """A number with a name, where its text would be written several times or is long."""
        if number.constant or is_name(number.text) or (uses < 2 and len(number.text) <= LONG):
            return number
        return replace(number, text=self.w.assign(number.text), atom=True)

    def _if(self, value: Value, op: ScalarOp, number: Callable[[int], Num], env: dict[int, Num]) -> list[Num]:
        """Both branches of an scf.if; each reads only where it is taken."""
        condition = number(op.operands[0])
        if not condition.atom or condition.constant:
            condition = replace(condition, text=self.w.assign(condition.method), atom=True, constant=False)
        made_inside = {index for region in op.regions for nested in region.ops for index in nested.results}
        for region in op.regions:  # what the branches read from around them is read for both
            for index in (*(i for nested in region.ops for i in nested.operands), *region.yields):
                if index not in made_inside:
                    number(index)
        refused = Num(f"({condition.text} == 0)", "i1", condition.axes)
        found = []
        for region, holds in zip(op.regions, (condition, refused), strict=True):
            with self.guarded(holds):
                inner = dict(env)
                for nested in region.ops:
                    if nested.regions or nested.name == "linalg.index":
                        raise not_yet(value, f"{nested.name} in a branch")
                    numbers = [inner[i] for i in nested.operands]
                    made = (
                        self._extract(value, nested, numbers)
                        if nested.tensor is not None
                        else self._apply(nested, numbers, value)
                    )
                    inner[nested.results[0]] = replace(made, text=self.w.assign(made.text), atom=True, constant=False)
                found.append([inner[i] for i in region.yields])
        pick = ScalarOp("arith.select", (0, 1, 2), (3,), op.types)
        return [
            self._apply(replace(pick, types=(kind,)), [condition, yes, no], value)
            for kind, yes, no in zip(op.types, *found, strict=True)
        ]

    def _apply(self, op: ScalarOp, numbers: Sequence[Num], value: Value) -> Num:
        found = apply(self.w, op, numbers)
        if found is None:
            raise not_yet(value, op.name)
        return found

    def _extract(self, value: Value, op: ScalarOp, numbers: Sequence[Num]) -> Num:
        """An element of a captured tensor at computed indices: a gather."""
        generic = value.generic
        assert generic is not None and op.tensor is not None
        first = len(value.operands) - len(generic.scalars) - generic.captures
        source = value.operands[first + op.tensor]
        place = tuple(self._as_index(n, extent) for n, extent in zip(numbers, source.shape, strict=True))
        return self.get(source, place)

    def _as_number(self, index: Index) -> Num:
        text = self.w.index(index)
        number = Num(text, "index", index.axes, is_name(text), not index.terms)
        self.w.remember(("index", text), index)
        return number

    def _as_index(self, number: Num, extent: int) -> Index:
        """A computed number as a place: one that came from a place is that place again."""
        if number.constant:
            return Index((), int(number.text))
        known = self.w.recall(("index", number.text))
        if known is not None:
            assert isinstance(known, Index)
            return known
        name = number.text if number.text.isidentifier() else self.w.assign(number.text, "at")
        return of(Symbol(name, extent, number.axes))

    # Buffers.

    def load(self, value: Value, place: Place) -> Num:
        """Read a value that is in a buffer."""
        self.found.append((value, place))
        return self.load_at(value, linear(place, value.shape))

    def load_at(self, value: Value, address: Index) -> Num:
        """Read a value that is in a buffer at a row-major position."""
        return self.loaded(value, self.read(value, address), address.axes)

    def loaded(self, value: Value, text: str, axes: frozenset[str]) -> Num:
        """What was loaded, in the type that is computed with."""
        return Num(self.w.assign(as_read(self.w, text, value.element), "v"), value.element, axes)

    def read(
        self, value: Value, address: Index, axes: frozenset[str] = frozenset(), pointer: str = ""
    ) -> str:
        """The load of a buffer at an address, as it lies in memory: a tile along `axes`, if it is none without.

        Args:
            pointer: the buffer under another name, of a type of floats.
        """
        self.loads.append((self.renamed.get(value, value), address))
        policy, least = self.eviction
        policy = policy if value.size >= least else ""
        if pointer:
            return self.load_from(pointer, address, axes, policy, "0.0")
        return self.load_from(self.pointer(value), address, axes, policy)

    def pointer(self, value: Value) -> str:
        """The name of a value's buffer."""
        return self.operands.setdefault(storage(self.renamed.get(value, value)), f"x{len(self.operands)}")

    def load_from(
        self, buffer: str, address: Index, axes: frozenset[str] = frozenset(), policy: str = "", zero: str = "0"
    ) -> str:
        """The load of a pointer at an address."""
        axes = axes.union(*(guard.axes for guard in self.guards))
        mask = self._mask(address.axes | axes)
        limits = f", mask={mask}, other={zero}" if mask else ""
        limits += f', eviction_policy="{policy}"' if policy else ""
        return f"tl.load({self._spread(buffer, address, axes)}{limits})"

    def _spread(self, buffer: str, address: Index, axes: frozenset[str]) -> str:
        """A pointer at an address. Axes that it does not vary along although the tile does are of extent 1."""
        missing = sorted(axes - address.axes)
        parts = [self.w.index(address), *(f"0 * {axis}" for axis in missing)]
        return " + ".join([buffer, *(part for part in parts if part != "0")])

    def store(self, buffer: str, value: Value, address: Index, number: Num) -> None:
        """Write a result."""
        self.written[value] = address
        self.w.emit(f"tl.store({self._written(buffer, value, address, number)})")

    def add_atomically(self, buffer: str, value: Value, address: Index, number: Num) -> None:
        """Add to what a result holds, whoever else adds to it at the same time."""
        self.w.emit(f'tl.atomic_add({self._written(buffer, value, address, number)}, sem="relaxed")')

    def _written(self, buffer: str, value: Value, address: Index, number: Num) -> str:
        """The arguments of a store: where, what, and under which mask."""
        axes = number.axes.union(*(guard.axes for guard in self.guards))
        where = self._spread(buffer, address, axes)
        mask = self._mask(address.axes | axes)
        return f"{where}, {as_stored(self.w, number, value.element)}{f', mask={mask}' if mask else ''}"

    def _mask(self, axes: frozenset[str]) -> str:
        """The mask of an address that varies along some axes."""
        names = [self.masks[axis] for axis in sorted(axes) if axis in self.masks]
        names += [guard.text for guard in self.guards]
        if len(names) < 2:
            return "".join(names)
        key = ("mask", *names)
        if self.w.recall(key) is None:
            self.w.remember(key, self.w.assign(" & ".join(names), "ok"))
        return str(self.w.recall(key))

    # The user's lines.

    def comment(self, value: Value) -> None:
        """The line of the user's program that made a value."""
        where = place_of(value)
        if where is not None:
            text = f"{Path(where.file).name}:{where.line}"
            source = linecache.getline(where.file, where.line).strip()
            self.w.comment(f"{text}: {source}" if source else text)
            self.lines[f"{text}: {source}" if source else text] = None


def _normal(value: Value, place: Place) -> Place:
    """Dimensions of extent 1 are read at 0."""
    return tuple(ZERO if extent == 1 else index for index, extent in zip(place, value.shape, strict=True))


def place_of(value: Value) -> Where | None:
    """Where in the user's program a value comes from."""
    return where_of(value.op.location) if value.op is not None else None


def not_yet(value: Value, what: str) -> LoweringError:
    """The error for what has no Triton code."""
    where = place_of(value)
    kind = f"{value.element}[{','.join(map(str, value.shape))}]"
    return LoweringError(
        f"{f'{where} ' if where else ''}{what} ({kind}): not yet on GPU. Run this part on the CPU: with "
        'tw.device("/device:CPU:0").'
    )
