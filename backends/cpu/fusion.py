"""Kernel forming: which values are computed together, and which of them are stored.

0. Matrices of scores that need not exist become values of kind `attention` (attention.py).
1. Heavy values (reductions, contractions, attention, windows, inserts, opaque ops) start kernels, numbered in program
   order.
2. A cheap value (map, slice, reshape) belongs to the kernel of its latest heavy input, where that kernel can absorb
   it: at the same row of a row kernel, at the same element of a contraction's result.
   An insert of what is computed for it goes to an elementwise kernel, beside other results of the same elements: the
   parts of a join, and the rows that an iteration stacks, are computed together and written where they belong.
3. What no kernel absorbs floats: it is recomputed wherever it is read, unless that costs more than a store and a load
   (`_must_store`); stored floating values form elementwise kernels, several results of one shape in one kernel.
4. A kernel stores exactly the values that another kernel, the control flow or the caller reads, less those that are
   cheaper to compute again (rematerialise.py).

A value never joins a kernel with a smaller number than that of a kernel it depends on, so the numbers are an order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from thalweg.backends.cpu.alike import Alike
from thalweg.backends.cpu.attention import form_attention
from thalweg.backends.cpu.costs import FLOATING, fills, own_cost, reads_buffer, widened_in_window
from thalweg.backends.cpu.emit import Group, emitter_for
from thalweg.backends.cpu.emit.loops import loop_nest
from thalweg.backends.cpu.emit.rows import RowSpace, row_space
from thalweg.backends.cpu.graph import Graph, Value
from thalweg.backends.cpu.joined import join_results
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.program import Branch, Launch, Loop, Program, storage
from thalweg.backends.cpu.rematerialise import Stores, rematerialise
from thalweg.backends.cpu.tuning import Tuner
from thalweg.backends.cpu.uses import apart, expands, is_at_root, is_elementwise_use
from thalweg.dialects.diagnostics import LoweringError

GENERIC = {"reduce", "contract", "convolution", "window"}

CHEAP = 8  # cost up to which a value is recomputed at every use
MAX_COST = 600  # of one kernel's inlined expression: beyond, a value is stored so that kernels stay small
MAX_DEPTH = 64  # of values that are computed from each other in one kernel: each asks for the next (emit/fused.py)
MAX_KERNEL_COST = 2400  # of all values of a row kernel; one that has more is several kernels
MAX_STORES = 16  # results of one elementwise kernel
LEAST_ROW = 16  # elements along memory in a box that is written beside other results: more lanes would be empty
SMALL_COPY = 1 << 15  # elements: larger copies are kernels of their own, which walk them as they lie


@dataclass
class Forming:
    """A group while it is formed."""

    group: Group
    number: int
    space: RowSpace | None = None  # of a row kernel
    elementwise: bool = False
    closed: bool = False  # of an elementwise kernel: one of its boxes is read by what comes now
    control: bool = False
    cost: int = 0
    stored: dict[Value, None] = field(default_factory=dict)


@dataclass(frozen=True)
class Generator:
    """Who writes the kernels that are formed.

    Args:
        emit: the kernel of a group, by a name.
        epilogue: can a kernel that this value starts also compute what is elementwise over its result?
        boxed: can it write its result into a box of another tensor, in that one's buffer?
        boxes: can elementwise kernels write several of their results into boxes of other tensors?
    """

    emit: Callable[[Group, str], Kernel]
    epilogue: Callable[[Value], bool]
    boxed: Callable[[Value], bool] = lambda value: False
    boxes: bool = False


def form(
    graph: Graph, generator: CpuOptions | Generator, prefix: str = "k", tuner: Tuner | None = None
) -> Program:
    """The program of a graph: its values in kernels.

    Args:
        generator: the CPU's with these options, or another.
        tuner: chooses among the ways to write a kernel, of the CPU's.

    Raises:
        LoweringError: an op that no code generator covers.
    """
    if isinstance(generator, CpuOptions):
        form_attention(graph)
        join_results(graph)
        generator = _for_cpu(generator, tuner)
    return _Former(graph, generator, prefix).program()


class _Former:
    def __init__(self, graph: Graph, generator: Generator, prefix: str) -> None:
        self.graph, self.generator, self.prefix = graph, generator, prefix
        self.own = set(graph.values)
        self.outputs = set(graph.outputs)
        self.kernels: list[Forming] = []
        self.home: dict[Value, Forming] = {}  # of heavy and absorbed values
        self.after: dict[Value, int] = {}  # number of the latest kernel that a value depends on, -1 for none
        self.cost: dict[Value, int] = {}  # of computing a floating value from buffers
        self.depth: dict[Value, int] = {}  # of a value that is not in a buffer: how many values it is computed through
        self.buffered: dict[Value, bool] = {}  # what `_needs_buffer` has found
        self.elementwise: dict[tuple[int, ...], Forming] = {}  # latest elementwise kernel for a shape, see `_line`

    def program(self) -> Program:
        for value in self.graph.values:
            if value.kind in FLOATING:
                self._place_floating(value)
            elif value.peers[:1] in ((), (value,)) or value.peers[0] not in self.home:
                self._place_heavy(value)
        self._store()
        program = Program(self.graph)
        for kernel in self.kernels:
            self._add_steps(program, kernel)
        return program

    # Placing.

    def _latest(self, values: Iterable[Value]) -> int:
        return max((self.after.get(value, -1) for value in values), default=-1)

    def _new(self, root: Value) -> Forming:
        kernel = Forming(Group(root), len(self.kernels))
        self.kernels.append(kernel)
        return kernel

    def _join(self, value: Value, kernel: Forming) -> None:
        self.home[value] = kernel
        self.after[value] = kernel.number
        kernel.group.members.add(value)
        if not kernel.control:
            kernel.cost += self._added_cost(value)

    def _added_cost(self, value: Value) -> int:
        """Of computing a value and what floats before it."""
        return own_cost(value) + sum(self.cost.get(o, 0) for o in value.operands if o not in self.home)

    def _depth_in(self, kernel: Forming | None, value: Value) -> int:
        """The depth of a value that is computed in a kernel, or floats: other kernels' values are in buffers."""
        computed = (operand for operand in value.operands if self.home.get(operand) in (None, kernel))
        return 1 + max((self.depth.get(operand, 0) for operand in computed), default=0)

    def _is_full(self, kernel: Forming, value: Value) -> bool:
        """Would a kernel grow too large with a value? The time to compile a kernel grows faster than the kernel."""
        too_deep = self._depth_in(kernel, value) > MAX_DEPTH
        return too_deep or kernel.cost + self._added_cost(value) > MAX_KERNEL_COST

    def _place_heavy(self, value: Value) -> None:
        captured = [c for region in value.regions for c in region.captures]
        kernel = self._absorbing_rows(value) if value.kind == "reduce" else self._writing_box(value)
        in_rows = self.generator.boxes and self._is_in_rows(value)
        if kernel is None and in_rows:
            kernel = self._with_box(value)
        if kernel is None:
            assert self._latest([*value.operands, *captured]) < len(self.kernels)
            kernel = self._new(value)
            kernel.control = value.kind == "control"
            kernel.space = row_space(value) if value.kind == "reduce" else None
            if in_rows:
                kernel.elementwise = True
                self.elementwise[self._line(value.operands[1].shape)] = kernel
        if value.kind == "insert":
            self._close(value, kernel)
        for peer in value.peers or (value,):
            self._join(peer, kernel)

    def _absorbing_rows(self, value: Value) -> Forming | None:
        """A row kernel with the same rows as this reduction, not older than what the reduction reads."""
        space = row_space(value)
        if space is None:
            return None
        latest = self._latest(value.operands)
        for kernel in reversed(self.kernels[max(latest, 0) :]):
            if kernel.space is None or self._floats_over(kernel, value) or self._is_full(kernel, value):
                continue
            if kernel.space.accepts_reduction(space, value, kernel.group.members):
                return kernel
        return None

    def _writing_box(self, value: Value) -> Forming | None:
        """The kernel whose result this insert puts into another tensor, if nothing else wants it: it writes there."""
        if value.kind != "insert" or fills(value) or not all(isinstance(offset, int) for offset in value.offsets):
            return None
        target, source = value.operands[:2]
        kernel = self.home.get(source)
        if kernel is None or kernel.group.root is not source or not self.generator.boxed(source):
            return None
        alone = source.users == [value] and source not in self.outputs and source.shape != value.shape
        return kernel if alone and source is not target and self._latest([target]) < kernel.number else None

    def _is_in_rows(self, value: Value) -> bool:
        """Is a value an insert of what is computed for it, or of little, that vectors can walk?"""
        if value.kind != "insert" or fills(value):
            return False
        source = storage(value.operands[1])
        home = self.home.get(source)
        computed = source.kind == "map" and (home is None or home.elementwise)
        line = self._line(source.shape)
        return (computed or source.size <= SMALL_COPY) and line[-1:] >= (LEAST_ROW,)

    def _with_box(self, value: Value) -> Forming | None:
        """The elementwise kernel that can write an insert's box, beside what else it stores of the same elements."""
        kernel = self.elementwise.get(self._line(value.operands[1].shape))
        if kernel is None or kernel.closed or kernel.number < self._latest(value.operands):
            return None
        boxes = sum(member.kind == "insert" for member in kernel.group.members)
        if boxes + len(kernel.stored) >= MAX_STORES or self._is_full(kernel, value):
            return None
        target, *others = value.operands
        if any(other.kind == "insert" and self.home.get(other) is kernel for other in others):
            return None
        if self.home.get(target) is kernel and target.kind == "insert":
            return kernel if self._continues(value, kernel) else None
        return kernel if self._latest([target]) < kernel.number else None

    def _continues(self, value: Value, kernel: Forming) -> bool:
        """Is an insert the next part of a join whose other parts a kernel writes, in any order?"""
        part = value.operands[0]
        if part.users != [value] or part in self.outputs:
            return False
        while part.kind == "insert" and self.home.get(part) is kernel:
            if not apart(part, value):
                return False
            part = part.operands[0]
        return True

    def _close(self, value: Value, user: Forming | None) -> None:
        """Of boxes that a value reads, let nothing join the kernels that write them, unless it is such a kernel: what
        depends on the value could."""
        for operand in value.operands:
            kernel = self.home.get(operand)
            if operand.kind == "insert" and kernel is not None and kernel is not user:
                kernel.closed = True

    def _line(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape as elementwise kernels see it: with boxes, without dimensions of one."""
        return tuple(extent for extent in shape if extent != 1) if self.generator.boxes else shape

    def _place_floating(self, value: Value) -> None:
        self._close(value, None)
        if value.kind in ("constant", "empty"):
            if value.splat is not None and self._needs_buffer(value):
                self._store_floating(value, -1)
            return
        latest = self._latest(value.operands)
        kernel = self.kernels[latest] if latest >= 0 else None
        if kernel is not None and self._absorbs(kernel, value):
            self.depth[value] = self._depth_in(kernel, value)
            self._join(value, kernel)
            return
        self.depth[value] = self._depth_in(None, value)
        self.after[value] = latest
        self.cost[value] = self._added_cost(value)
        if value.kind not in ("scalar", "reshape") and self._must_store(value):
            self._store_floating(value, latest)

    def _absorbs(self, kernel: Forming, value: Value) -> bool:
        """Can `value`, which depends on `kernel`, be computed inside it?"""
        if kernel.elementwise or kernel.control or value.kind == "scalar" or widened_in_window(value):
            return False
        if self._floats_over(kernel, value) or self._is_full(kernel, value):
            return False
        if kernel.space is not None:
            return kernel.space.accepts(value, kernel.group.members)
        return self.generator.epilogue(kernel.group.root) and is_at_root(value, kernel.group.root, kernel.group.members)

    def _floats_over(self, kernel: Forming, value: Value) -> bool:
        """Does `value` read what depends on `kernel` from outside, so that it has to wait for the kernel's end?"""
        return any(self.after.get(o) == kernel.number and o not in self.home for o in value.operands)

    def _must_store(self, value: Value) -> bool:
        """Is a floating value better (or necessarily) in a buffer?"""
        if self._needs_buffer(value):
            return True
        cost = self.cost[value]
        if cost > MAX_COST or self.depth[value] > MAX_DEPTH:
            return True
        if cost <= CHEAP:
            return False
        if len(value.users) > 1 and not all(is_elementwise_use(value, user) for user in value.users):
            return True
        return any(expands(value, user) for user in value.users)

    def _needs_buffer(self, value: Value) -> bool:
        """Is a value read by something that reads buffers? A reshape is a view of its operand's buffer."""
        known = self.buffered.get(value)
        if known is None:
            known = self.buffered[value] = value in self.outputs or any(
                self._needs_buffer(user) if user.kind == "reshape" else reads_buffer(user, value)
                for user in value.users
            )
        return known

    def _store_floating(self, value: Value, latest: int) -> None:
        """Put a floating value into an elementwise kernel: the latest of its shape, or a new one."""
        kernel = self.elementwise.get(self._line(value.shape))
        late = kernel is None or kernel.closed or kernel.number < latest
        if kernel is None or late or len(kernel.stored) >= MAX_STORES or value.size == 0:
            kernel = self._new(value)
            kernel.elementwise = True
            self.elementwise[self._line(value.shape)] = kernel
        kernel.stored[value] = None
        self._join(value, kernel)
        self.cost[value] = 0

    # Stores and steps.

    def _store(self) -> None:
        """Complete the members by the floating values that are computed inside, and decide what every kernel stores."""
        for kernel in self.kernels:
            if not kernel.control:
                for value in list(kernel.group.members):
                    self._include(kernel.group, value)
        for value in self.graph.outputs:
            self._read(value)
        for kernel in self.kernels:
            if kernel.control:
                root = kernel.group.root
                for value in (*root.operands, *(c for region in root.regions for c in region.captures)):
                    self._read(value)
            else:
                for value in kernel.group.members:
                    for operand in value.operands:
                        if operand not in kernel.group.members or (
                            reads_buffer(value, operand) and not operand.kind == value.kind == "insert"
                        ):
                            self._read(operand)
        groups = [Stores(k.group.root, k.group.members, k.stored) for k in self.kernels if not k.control]
        rematerialise(groups, frozenset(self.outputs) | self._read_by_control(), self._read)
        for kernel in self.kernels:
            kernel.group.stores = sorted(kernel.stored, key=lambda v: v.id)

    def _read_by_control(self) -> frozenset[Value]:
        """Values that control flow reads, from buffers."""
        roots = [kernel.group.root for kernel in self.kernels if kernel.control]
        captured = [value for root in roots for region in root.regions for value in region.captures]
        return frozenset(storage(value) for value in (*captured, *(o for root in roots for o in root.operands)))

    def _read(self, value: Value) -> None:
        """`value` is read from a buffer: its kernel stores it."""
        kernel = self.home.get(storage(value))
        if kernel is not None and not kernel.control:
            kernel.stored[storage(value)] = None

    def _include(self, group: Group, value: Value) -> None:
        """Add the floating operands of a member that are not in buffers, transitively."""
        pending = [operand for operand in value.operands if not reads_buffer(value, operand)]
        while pending:
            operand = pending.pop()
            if operand in group.members or operand in self.home or operand not in self.own:
                continue
            if (
                operand.kind == "reshape"
                and storage(operand) not in group.members
                and self._in_buffer(storage(operand))
            ):
                continue
            if operand.kind in FLOATING and operand.kind not in ("constant", "empty"):
                group.members.add(operand)
                pending += operand.operands

    def _in_buffer(self, value: Value) -> bool:
        return value in self.home or value not in self.own or value.kind in ("constant", "arg")

    def _add_steps(self, program: Program, kernel: Forming) -> None:
        root = kernel.group.root
        kind = root.op_name.split(".")[-1] if root.kind in ("opaque", "control") else root.kind
        name = f"{self.prefix}{kernel.number}_{kind}"
        if kernel.control:
            program.steps.append(self._control(root, name))
        elif any(value.size for value in kernel.group.stores):  # a kernel without elements does nothing
            program.steps.append(Launch(self.generator.emit(kernel.group, name)))

    def _control(self, root: Value, name: str) -> Loop | Branch:
        programs = tuple(form(region, self.generator, f"{name}_{k}_") for k, region in enumerate(root.regions))
        if root.op_name == "stablehlo.while":
            return Loop(root.peers, *programs)
        return Branch(root.peers, programs, root.op_name == "stablehlo.case")


def _for_cpu(options: CpuOptions, tuner: Tuner | None) -> Generator:
    def emit(group: Group, name: str) -> Kernel:
        emitter = emitter_for(group.root)
        if emitter is not None:
            if tuner is None:
                return emitter.emit(group, name, options)
            return tuner.best(lambda decision: emitter.emit(replace(group, decision=decision), name, options))
        if group.root.kind in GENERIC:
            return loop_nest(group, name, options)
        root = group.root
        target = (
            str(root.op.attributes["call_target_name"]) if root.op_name == "stablehlo.custom_call" and root.op else ""
        )
        raise LoweringError(
            f"{root.location}: the CPU backend has no code generator for {root.op_name} {target}".rstrip()
            + ". Express it with other ops, or run this part on another backend."
        )

    def epilogue(root: Value) -> bool:
        emitter = emitter_for(root)
        return emitter is not None and emitter.epilogue

    return Generator(Alike(emit), epilogue, boxed=lambda root: root.kind == "convolution", boxes=True)
