"""The value graph: what the compiler knows of a block of linalg on tensors, as plain Python.

A `Value` is one tensor (or scalar) of the program. Its `kind` says how it comes about:

    arg          an argument of the block (of the function, of a loop's region)
    empty        a tensor whose elements are never read (the target of the first insert of a concatenation)
    constant     known numbers; `attribute` holds the dense attribute, `splat` its text where all elements are equal
    map          every element from elements of the operands at affine places: elementwise, broadcast, transpose,
                 iota, gather
    reshape      the same elements in row-major order under another shape
    slice        a strided box of the operand (offsets may be scalar values)
    insert       operand 1 written into a strided box of operand 0
    scalar       one op on scalars between tensor ops (offsets of slices)
    reduce       elements combined along dimensions
    contract     sums of products over projected dimensions: any dot_general
    convolution  sums of products over a sliding window
    pack         a matrix laid out in panels for products that read it often (hoist.py)
    window       a reduction over a sliding window: pooling, cumulative sums
    attention    a matrix of scores, made and used up (attention.py); `attention` says how
    control      stablehlo.while, stablehlo.if, stablehlo.case; `regions` are graphs
    opaque       any other op, named by `op_name`; an emitter must be registered under that name

`map`, `reduce`, `contract`, `convolution` and `window` come from `linalg.generic` and carry a `Generic`, as `pack`
does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from thalweg.dialects.mlir import ir

if TYPE_CHECKING:
    from thalweg.backends.cpu.attention import Attention
    from thalweg.backends.cpu.panels import Panels
    from thalweg.backends.cpu.windows import Windows

# Of an element in memory.
BYTES = {"f64": 8, "i64": 8, "index": 8, "f32": 4, "i32": 4, "f16": 2, "bf16": 2, "i16": 2, "i8": 1, "i1": 1,
         "f8E4M3FN": 1, "f8E5M2": 1}

# Affine expressions: a dimension number or a sum  constant + sum(coefficient * dimension).


@dataclass(frozen=True)
class Affine:
    """constant + sum of coefficient * loop dimension; `terms` is sorted by dimension and holds no zero."""

    terms: tuple[tuple[int, int], ...] = ()  # (dimension, coefficient)
    constant: int = 0

    @cached_property
    def dim(self) -> int | None:
        """The dimension, if the expression is exactly one dimension."""
        return self.terms[0][0] if self.constant == 0 and len(self.terms) == 1 and self.terms[0][1] == 1 else None


Map = tuple[Affine, ...]  # one expression for each dimension of the operand


@dataclass(frozen=True)
class ScalarOp:
    """One operation in a scalar body.

    `attributes` is the text between the braces of the generic form ('predicate = 2 : i64'), or empty. `operands` and
    `results` are indices into the body's table of scalars. Ops with regions (scf.if) keep the MLIR operation.
    """

    name: str
    operands: tuple[int, ...]
    results: tuple[int, ...]
    types: tuple[str, ...]  # of the results
    attributes: str = ""
    tensor: int | None = None  # tensor.extract: which of the generic's `captures` is read
    dim: int | None = None  # linalg.index: which loop
    regions: tuple[Body, ...] = ()


@dataclass(frozen=True)
class Body:
    """The body of a generic: scalars are numbered, the block's arguments first.

    Example:
        `(%in, %out): %2 = arith.addf %out, %in; yield %2` has arguments ("f32", "f32"), one op with operands (1, 0) and
        results (2,), and yields (2,).
    """

    arguments: tuple[str, ...]  # element types
    ops: tuple[ScalarOp, ...]
    yields: tuple[int, ...]


@dataclass(frozen=True)
class Generic:
    """A `linalg.generic`: loops, where each operand is read, and the scalar body.

    The value's operands are: `inputs` tensors read through `maps`, then one initial value for each result (a constant
    for most reductions; maps have none), then the captured tensors that `tensor.extract` reads, then captured scalars.
    The body's arguments are the inputs' elements, then the initial or running values of the results.
    """

    extents: tuple[int, ...]  # of the loops
    reductions: frozenset[int]  # loop dimensions that are reduced
    inputs: int
    maps: tuple[Map, ...]  # of the inputs, then of the results
    body: Body
    captures: int = 0  # tensors that the body reads by tensor.extract
    scalars: tuple[int, ...] = ()  # body scalars bound to captured values, in the order of the last operands

    @property
    def input_maps(self) -> tuple[Map, ...]:
        return self.maps[: self.inputs]

    @property
    def result_maps(self) -> tuple[Map, ...]:
        return self.maps[self.inputs :]


@dataclass(eq=False)
class Value:
    """One tensor or scalar. Compared by identity; `id` orders values as the program computes them."""

    id: int
    kind: str
    shape: tuple[int, ...]
    element: str  # f32, bf16, i1, i32 (signless: signedness is in the ops), index
    operands: tuple[Value, ...] = ()
    op: ir.Operation | None = None
    generic: Generic | None = None
    peers: tuple[Value, ...] = ()  # all results of the op, this one included
    users: list[Value] = field(default_factory=list)
    location: str = ""

    # constant
    attribute: ir.Attribute | None = None
    splat: str | None = None  # "1.000000e+00", "0xFF800000", "true", "-3"

    # slice, insert: offsets are ints or scalar values
    offsets: tuple[int | Value, ...] = ()
    sizes: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    # scalar
    scalar: ScalarOp | None = None

    # control
    regions: tuple[Graph, ...] = ()

    # attention
    attention: Attention | None = None

    # pack, and arg: a matrix that was laid out for the product that reads it
    panels: Panels | None = None

    # pooling and its gradient, where their windows are not those of the op
    windows: Windows | None = None

    @property
    def op_name(self) -> str:
        return self.op.name if self.op is not None else self.kind

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def result_index(self) -> int:
        return self.peers.index(self) if self.peers else 0

    def __repr__(self) -> str:
        return f"%{self.id}:{self.kind}:{self.element}[{','.join(map(str, self.shape))}]"


@dataclass
class Graph:
    """A block: its arguments, its values in program order, and what it returns."""

    args: list[Value] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)  # without the arguments
    outputs: list[Value] = field(default_factory=list)
    captures: list[Value] = field(default_factory=list)  # values of enclosing blocks that this one reads


def forget_users(graph: Graph) -> None:
    """Empty `users`, in the nested graphs too, before `drop_dead` fills them in again."""
    for value in (*graph.args, *graph.values):
        value.users.clear()
        for region in value.regions:
            forget_users(region)


def tidy(graph: Graph) -> None:
    """After values came, went or read others: drop the dead, and find out again who uses what."""
    forget_users(graph)
    drop_dead(graph)


def renumber(graph: Graph) -> None:
    """Number the values of a graph, and of those nested in it, in program order."""
    _renumber(graph, itertools.count())


def _renumber(graph: Graph, numbers: Iterator[int]) -> None:
    for argument in graph.args:
        argument.id = next(numbers)
    for value in graph.values:
        if value.peers[:1] in ((), (value,)):  # the results of one op share its regions
            for region in value.regions:
                _renumber(region, numbers)
        value.id = next(numbers)


def drop_dead(graph: Graph) -> None:
    """Remove what no output needs, and fill in `users` and `captures` of this graph and the nested ones.

    An op is decided once, at its last result: all users of its results come later. Control flow has as many results as
    operands, often hundreds, and is one user of each operand.
    """
    live = set(graph.outputs)
    for value in reversed(graph.values):
        peers = value.peers or (value,)
        if value is peers[-1] and not live.isdisjoint(peers):
            live.update(peers)
            live.update(value.operands)
            for region in value.regions:
                drop_dead(region)
                live.update(region.captures)
    graph.values = [v for v in graph.values if v in live]
    own = set(graph.values) | set(graph.args)
    graph.captures = sorted((v for v in live if v not in own), key=lambda v: v.id)
    for value in graph.values:
        if value.kind == "control" and value is not value.peers[0]:
            continue
        for operand in dict.fromkeys(value.operands):
            operand.users.append(value)
        for captured in dict.fromkeys(c for region in value.regions for c in region.captures):
            captured.users.append(value)
