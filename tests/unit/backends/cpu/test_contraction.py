"""Sums of products against NumPy's einsum in higher precision: shapes, orientations, dtypes, machines, schedules."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.backends.cpu.emit.blocking import Schedule, choose, in_panels, whole_lines
from thalweg.backends.cpu.emit.contraction import generate
from thalweg.backends.cpu.emit.finishing import Element
from thalweg.backends.cpu.emit.nest import Axis, Buffer, Contraction, classify, strides
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.jit import Code, compile_llvm, to_llvm_ir
from thalweg.backends.cpu.machine import Machine, machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context

NUMPY = {
    "f32": np.float32,
    "f64": np.float64,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
}
TOLERANCE = {"f32": 1e-5, "f64": 1e-14, "f16": 1e-3, "bf16": 8e-3}
OPTIONS = CpuOptions(threads=1)
HOST = machine(OPTIONS)


def einsum(spec: str, lhs: Sequence[int], rhs: Sequence[int], dtype: str, out: str) -> Contraction:
    """The contraction of an einsum with two operands."""
    (left, right), result = spec.split("->")[0].split(","), spec.split("->")[1]
    extents = dict(zip(left, lhs, strict=True)) | dict(zip(right, rhs, strict=True))

    def moves(letters: str) -> dict[str, int]:
        return dict(zip(letters, strides(tuple(extents[c] for c in letters)), strict=True))

    axes = tuple(
        Axis(n, moves(left).get(c, 0), moves(right).get(c, 0), result.index(c) if c in result else None)
        for c, n in extents.items()
    )
    shape = tuple(extents[c] for c in result)
    return Contraction(axes, Buffer("%a", tuple(lhs), dtype), Buffer("%b", tuple(rhs), dtype), Buffer("%c", shape, out))


def run(
    spec: Contraction,
    arrays: Sequence[np.ndarray],
    target: Machine = HOST,
    schedule: Schedule | None = None,
    epilogue_on: bool = False,
    pieces: int = 1,
) -> np.ndarray:
    """Compile and run in `pieces` calls; with `epilogue_on` the stored value is twice the sum."""
    w = ScopedWriter()

    def double(element: Element) -> None:
        number, kind = element.number, element.number.type
        add = "addi" if number.element[0] == "i" else "addf"
        twice = w.op(f"arith.{add} {number.name}, {number.name} : {kind}")
        at = f"%c[{', '.join(w.ssa(p) for p in element.place)}] : {spec.out.memref}"
        if number.lanes == 1:
            w.emit(f"memref.store {twice}, {at}")
        elif element.mask:
            where, memref = at.split(" : ")
            w.emit(f"vector.maskedstore {where}, {element.mask}, {twice} : {memref}, vector<{number.lanes}xi1>, {kind}")
        else:
            w.emit(f"vector.store {twice}, {at}, {kind}")

    code = generate(spec, target, double if epilogue_on else None, 1, schedule, w)
    parameters = [f"{b.name}: {b.memref}" for b in (spec.lhs, spec.rhs, spec.out)]
    parameters += [f"%scratch: memref<{code.scratch}xi8>"] if code.scratch else []
    source = f"func.func @f({', '.join([*parameters, '%lo: index', '%hi: index'])}) {{\n{code.body}\nreturn\n}}"
    with context.entered():
        text = to_llvm_ir(source)
    native = Code(compile_llvm(text, OPTIONS).object_code, "f")
    out = np.full(spec.out.shape, 77, NUMPY[spec.out.dtype])
    buffers = [*arrays, out, *([np.zeros(code.scratch, np.uint8)] if code.scratch else [])]
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(buffers), ctypes.c_int64, ctypes.c_int64)
    call = function(native.address("f"))
    edges = [code.tiles * piece // pieces for piece in range(pieces + 1)]
    for low, high in itertools.pairwise(edges):
        call(*[b.ctypes.data for b in buffers], low, high)
    return out


def check(spec: str, lhs: Sequence[int], rhs: Sequence[int], dtype: str = "f32", out: str = "", **how: Any) -> None:
    """Compare with einsum in f64 or i64."""
    out = out or dtype
    rng = np.random.default_rng(1)
    wide = np.int64 if dtype[0] == "i" else np.float64
    drawn = [rng.integers(-9, 9, s) if wide is np.int64 else rng.standard_normal(s) for s in (lhs, rhs)]
    arrays = [np.asarray(a).astype(NUMPY[dtype]) for a in drawn]
    expected = np.einsum(spec, *[a.astype(wide) for a in arrays])
    if how.get("epilogue_on"):
        expected = expected * 2
    result = run(einsum(spec, lhs, rhs, dtype, out), arrays, **how)
    if wide is np.int64:
        np.testing.assert_array_equal(result, expected.astype(NUMPY[out]))
    else:
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(result.astype(np.float64) / scale, expected / scale, rtol=0, atol=TOLERANCE[out])


ORIENTATIONS = ["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn", "mk,kn->nm"]


def operand_shapes(spec: str, m: int, n: int, k: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    extents = {"m": m, "n": n, "k": k}
    left, right = spec.split("->")[0].split(",")
    return tuple(extents[c] for c in left), tuple(extents[c] for c in right)


@pytest.mark.parametrize("spec", ORIENTATIONS)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (13, 50, 17), (64, 48, 32), (100, 101, 300)])
def test_orientations_and_odd_sizes(spec: str, sizes: tuple[int, int, int]) -> None:
    check(spec, *operand_shapes(spec, *sizes))


@pytest.mark.parametrize(
    ("spec", "lhs", "rhs"),
    [
        ("bmk,bkn->bmn", (3, 33, 50), (3, 50, 70)),
        ("bmk,bnk->bmn", (3, 33, 50), (3, 70, 50)),
        ("bthd,bshd->bhts", (2, 20, 3, 16), (2, 24, 3, 16)),
        ("bhts,bshd->bthd", (2, 3, 20, 24), (2, 24, 3, 16)),
        ("ack,kbd->abcd", (5, 6, 7), (7, 3, 4)),
        ("mjk,njk->mn", (3, 5, 33), (50, 5, 33)),
        ("abm,abn->abmn", (2, 3, 5), (2, 3, 40)),
        ("mk,k->m", (33, 50), (50,)),
        ("k,kn->n", (50,), (50, 33)),
        ("k,k->", (5000,), (5000,)),
        ("m,n->mn", (50,), (30,)),
        ("bc,bc->bc", (5, 40), (5, 40)),
        ("ab,ab->a", (65, 40), (65, 40)),
        ("bad,cad->cba", (4, 40, 16), (40, 40, 16)),
        (",->", (), ()),
    ],
)
@pytest.mark.parametrize("epilogue_on", [False, True])
def test_ranks_and_batches(spec: str, lhs: tuple[int, ...], rhs: tuple[int, ...], epilogue_on: bool) -> None:
    check(spec, lhs, rhs, epilogue_on=epilogue_on)


@pytest.mark.parametrize("dtype", ["f64", "f16", "bf16", "i8", "i16", "i32", "i64"])
@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn"])
def test_dtypes(dtype: str, spec: str) -> None:
    check(spec, *operand_shapes(spec, 40, 50, 37), dtype)


@pytest.mark.parametrize(("dtype", "out"), [("i8", "i32"), ("bf16", "f32"), ("f16", "f32"), ("f32", "f64")])
def test_wider_results(dtype: str, out: str) -> None:
    check("mk,nk->mn", (9, 40), (30, 40), dtype, out)
    check("mk,kn->mn", (9, 40), (40, 30), dtype, out)


@pytest.mark.parametrize("epilogue_on", [False, True])
@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->mn", "km,kn->mn"])
def test_long_sums_take_several_passes(spec: str, epilogue_on: bool) -> None:
    check(spec, *operand_shapes(spec, 33, 70, 5000), epilogue_on=epilogue_on)


@pytest.mark.parametrize("epilogue_on", [False, True])
@pytest.mark.parametrize("order", ["panels", "rows"])
@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("block", [64, 30])
def test_schedules(order: str, pack: bool, block: int, epilogue_on: bool) -> None:
    lanes = HOST.lanes("f32")
    panels = order == "panels"
    schedule = Schedule(5, 2, lanes, "panels" if panels else "rows", pack, pack and panels, block)
    for sizes in ((5, 2 * lanes, 64), (23, 5 * lanes + 3, 64)):
        check("km,kn->mn", *operand_shapes("km,kn->mn", *sizes), schedule=schedule, epilogue_on=epilogue_on)


@pytest.mark.parametrize("epilogue_on", [False, True])
@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->mn"])
@pytest.mark.parametrize(("group", "splits", "unroll", "block"), [(2, 1, 2, 70), (3, 3, 1, 70), (2, 2, 4, 30)])
def test_groups_of_panels(spec: str, group: int, splits: int, unroll: int, block: int, epilogue_on: bool) -> None:
    """Ranges of tiles that begin and end inside a group, the last panel and the last tile of rows narrower; batches."""
    lanes = HOST.lanes("f32")
    schedule = Schedule(5, 2, lanes, "panels", False, True, block, splits=splits, group=group, unroll=unroll)
    shapes = operand_shapes(spec, 33, 9 * lanes + 3, 70)
    check(spec, *shapes, schedule=schedule, epilogue_on=epilogue_on, pieces=4 if block == 70 else 1)
    batched = ",".join("b" + letters for letters in spec.split("->")[0].split(",")) + "->bmn"
    check(batched, (3, *shapes[0]), (3, *shapes[1]), schedule=schedule, epilogue_on=epilogue_on)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("length", [64, 200])
def test_pieces_of_packed_rows(group: int, length: int) -> None:
    """Rows that lie side by side, packed piece by piece, few summed elements at a time."""
    schedule = Schedule(8, 2, HOST.lanes("f32"), "panels", True, True, length, splits=3, group=group)
    check("km,kn->mn", (length, 72), (length, 130), schedule=schedule)
    check("km,kn->mn", (length, 77), (length, 130), schedule=schedule, pieces=3, epilogue_on=True)
    unpacked = Schedule(8, 2, HOST.lanes("f32"), "panels", True, False, 64)
    check("km,kn->mn", (length, 72), (length, 130), schedule=unpacked)


@settings(max_examples=30, deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 130)] * 3), spec=st.sampled_from(ORIENTATIONS), epilogue_on=st.booleans())
def test_any_sizes(sizes: tuple[int, int, int], spec: str, epilogue_on: bool) -> None:
    check(spec, *operand_shapes(spec, *sizes), epilogue_on=epilogue_on)


@pytest.mark.parametrize("target", [Machine(256, 16), Machine(128, 32), Machine(128, 16)])
@pytest.mark.parametrize("spec", ORIENTATIONS)
def test_narrower_machines(target: Machine, spec: str) -> None:
    check(spec, *operand_shapes(spec, 23, 50, 37), target=target)


@pytest.mark.parametrize("pieces", [2, 5])
def test_tiles_are_independent(pieces: int) -> None:
    check("mk,kn->mn", (30, 20), (20, 170), pieces=pieces)
    check("bmk,bnk->bmn", (4, 30, 20), (4, 50, 20), pieces=pieces)
    check("km,kn->mn", (20, 130), (20, 30), pieces=pieces)


def test_unsigned_bytes_are_widened_without_sign() -> None:
    spec = einsum("mk,kn->mn", (3, 4), (4, 5), "i8", "i32")
    unsigned = Contraction(
        spec.axes, Buffer("%a", (3, 4), "i8", signed=False), Buffer("%b", (4, 5), "i8", signed=False), spec.out
    )
    a, b = np.full((3, 4), 200, np.uint8), np.full((4, 5), 255, np.uint8)
    np.testing.assert_array_equal(run(unsigned, (a, b)), a.astype(np.int32) @ b.astype(np.int32))


def test_strided_windows_are_contractions_too() -> None:
    """A 1-D convolution with stride 2 and dilation 3, and one with the kernel reversed (a negative stride)."""
    rng = np.random.default_rng(0)
    x, k = rng.standard_normal((40, 3)).astype(np.float32), rng.standard_normal((5, 3, 20)).astype(np.float32)
    image, out = Buffer("%a", (40, 3), "f32"), Buffer("%c", (14, 20), "f32")
    axes = (Axis(14, 2 * 3, 0, 0), Axis(20, 0, 1, 1), Axis(5, 3 * 3, 60), Axis(3, 1, 20))
    spec = Contraction(axes, image, Buffer("%b", (5, 3, 20), "f32"), out)
    windows = np.stack([x[2 * o + 3 * np.arange(5)] for o in range(14)])
    np.testing.assert_allclose(run(spec, (x, k)), np.einsum("owc,wcn->on", windows, k), rtol=1e-4, atol=1e-4)
    back = (Axis(14, 2 * 3, 0, 0), Axis(20, 0, 1, 1), Axis(5, 3 * 3, -60), Axis(3, 1, 20))
    spec = Contraction(back, image, Buffer("%b", (5, 3, 20), "f32", 240), out)
    np.testing.assert_allclose(run(spec, (x, k)), np.einsum("owc,wcn->on", windows, k[::-1]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("epilogue_on", [False, True])
@pytest.mark.parametrize("pieces", [1, 3])
def test_lines_of_a_window_are_cut_into_passes_too(pieces: int, epilogue_on: bool) -> None:
    """Two summed axes that do not lie side by side, by a large matrix: several passes over each line."""
    rng = np.random.default_rng(0)
    x, k = (rng.standard_normal(s).astype(np.float32) for s in ((18, 701), (3, 701, 530)))
    axes = (Axis(14, 701, 0, 0), Axis(530, 0, 1, 1), Axis(3, 2 * 701, 701 * 530), Axis(701, 1, 530))
    spec = Contraction(axes, Buffer("%a", x.shape, "f32"), Buffer("%b", k.shape, "f32"), Buffer("%c", (14, 530), "f32"))
    schedule = choose(classify(spec, HOST.lanes("f32"), not epilogue_on), Machine(512, 32))
    assert schedule.block == 1 and 0 < schedule.within < 701
    schedule = replace(schedule, rows=5, vectors=2, lanes=HOST.lanes("f32"))
    made = run(spec, (x, k), schedule=schedule, epilogue_on=epilogue_on, pieces=pieces)
    windows = np.stack([x[o + 2 * np.arange(3)] for o in range(14)]).astype(np.float64)
    expected = np.einsum("owc,wcn->on", windows, k) * (2 if epilogue_on else 1)
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("rows", "splits"), [(191, 1), (192, 2), (3136, 2), (12544, 8)])
def test_threads_that_share_rows_pack_a_small_matrix_each(rows: int, splits: int) -> None:
    """All of its panels at a time; of many rows each thread has several pieces."""
    nest = classify(einsum("ab,bc->ac", (rows, 128), (128, 128), "f32", "f32"), 16, True)
    schedule = choose(nest, Machine(512, 32), 2)
    panels = -(-128 // schedule.width)
    assert schedule.splits == splits
    if splits > 1:
        assert (schedule.order, schedule.pack_rhs, schedule.group) == ("panels", True, panels)


@pytest.mark.parametrize("epilogue_on", [False, True])
@pytest.mark.parametrize("rows", [3, 4, 8, 12])
def test_tiles_of_whole_lines(rows: int, epilogue_on: bool) -> None:
    """Parts of lines of four, lines, and several lines, the last tile lower."""
    rng = np.random.default_rng(0)
    x, k = (rng.standard_normal(s).astype(np.float32) for s in ((9, 6, 11), (3, 11, 37)))
    axes = (Axis(5, 2 * 66, 0, 0), Axis(4, 11, 0, 1), Axis(37, 0, 1, 2), Axis(3, 11, 11 * 37), Axis(11, 1, 37))
    a, b, c = (Buffer(f"%{n}", s, "f32") for n, s in zip("abc", (x.shape, k.shape, (5, 4, 37)), strict=True))
    spec = Contraction(axes, a, b, c)
    nest = classify(spec, HOST.lanes("f32"), not epilogue_on)
    assert [axis.extent for axis in nest.rows] == [5, 4] and whole_lines(nest, rows) == (rows % 4 == 0)
    schedule = replace(choose(nest, HOST), rows=rows, vectors=1)
    made = run(spec, (x, k), schedule=schedule, epilogue_on=epilogue_on, pieces=2)
    windows = np.stack([[x[2 * i, j : j + 3] for j in range(4)] for i in range(5)]).astype(np.float64)
    expected = np.einsum("ijwc,wcn->ijn", windows, k) * (2 if epilogue_on else 1)
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_threads_share_the_columns_where_rows_are_few() -> None:
    """Each packs its own; with many rows they share those, so that more than two tasks are dealt out."""
    few, many = (
        choose(classify(einsum("ab,bc->ac", (rows, 1024), (1024, 256), "f32", "f32"), 16, True), Machine(512, 32), 2)
        for rows in (196, 4096)
    )
    assert few.splits == 1 and few.pack_rhs and many.splits > 1


@pytest.mark.parametrize("target", [Machine(512, 32), Machine(256, 16), Machine(128, 16)], ids=str)
@pytest.mark.parametrize("n", [64, 100, 256, 512, 1024, 2048])
def test_register_tile_fits_the_registers(target: Machine, n: int) -> None:
    """Sums, the vectors of a row of columns and two for the rows: one register more would spill in the inner loop."""
    lanes = target.lanes("f32")
    for spec in ("ab,bc->ac", "ab,cb->ac", "ba,bc->ac"):
        schedule = choose(classify(einsum(spec, (n, n), (n, n), "f32", "f32"), lanes, True), target)
        panel = schedule.block * schedule.width * 4
        assert schedule.group == 1 or schedule.group * panel <= target.second_cache // 2
        assert schedule.rows * schedule.vectors + schedule.vectors + 2 <= target.registers
        assert schedule.rows * schedule.vectors >= target.registers // 2


def test_panels_stay_in_the_first_cache_where_they_can() -> None:
    """With 256 summed elements two vectors fit and three do not; with 512 neither does, and wide tiles load less."""
    target = Machine(512, 32)
    short, long = (
        choose(classify(einsum("ab,bc->ac", (512, k), (k, 512), "f32", "f32"), 16, True), target) for k in (256, 512)
    )
    assert (short.vectors, long.vectors) == (2, 3)
    assert short.pack_rhs and long.pack_rhs


@pytest.mark.parametrize("epilogue_on", [False, True])
def test_long_matrix_vector_products_read_few_pages_at_a_time(epilogue_on: bool) -> None:
    """Partial sums wait in the result or, with an epilogue, in scratch memory."""
    check("ab,bc->ac", (1, 700), (700, 333), epilogue_on=epilogue_on)
    check("ab,bc->ac", (1, 700), (700, 333), epilogue_on=epilogue_on, pieces=3)


@pytest.mark.parametrize("rows", [2, 7, 20, 24, 25, 100, 128])
@pytest.mark.parametrize("epilogue_on", [False, True])
def test_few_rows_by_a_large_matrix(rows: int, epilogue_on: bool) -> None:
    """Few summed elements at a time, packed or not; the sums of a tile wait between the passes."""
    spec = einsum("ab,bc->ac", (rows, 600), (600, 530), "f32", "f32")
    assert choose(classify(spec, HOST.lanes("f32"), not epilogue_on), HOST).block <= 128
    check("ab,bc->ac", (rows, 600), (600, 530), epilogue_on=epilogue_on)
    check("ab,bc->ac", (rows, 600), (600, 530), epilogue_on=epilogue_on, pieces=3)


@pytest.mark.parametrize(
    ("rows", "columns", "asked"), [(4, 530, False), (20, 530, True), (20, 400, False), (128, 530, False)]
)
def test_the_next_panel_of_a_large_matrix_is_asked_for(rows: int, columns: int, asked: bool) -> None:
    """Where its products take longer than bringing it, and few tiles of rows would ask for it again."""
    spec = einsum("ab,bc->ac", (rows, 600), (600, columns), "f32", "f32")
    target = Machine(512, 32, second_cache=1 << 20)
    assert choose(classify(spec, target.lanes("f32"), True), target).fetch == asked
    assert ("memref.prefetch" in generate(spec, target).body) == asked


@pytest.mark.parametrize(
    ("rows", "depth", "deep", "asked"),
    [(49, 2048, True, True), (196, 1024, True, True), (196, 512, False, True), (784, 128, False, False)],
)
def test_panels_that_lie_so(rows: int, depth: int, deep: bool, asked: bool) -> None:
    """Long ones that few rows read are done with one by one, in passes that the first cache holds. The next one is
    asked for, unless so many tiles of rows do that none asks for two elements of it at a time."""
    spec = einsum("ab,bc->ac", (rows, depth), (depth, 512), "f32", "f32")
    target = Machine(512, 32, second_cache=1 << 20)
    schedule = in_panels(classify(spec, 16, False), target)
    assert schedule.deep == deep
    assert not deep or schedule.block * schedule.width * 4 <= target.first_cache * 2 // 3 < depth * schedule.width * 4
    packed = replace(spec, rhs=replace(spec.rhs, panel=schedule.width))
    assert ("memref.prefetch" in generate(packed, target).body) == asked


def test_threads_keep_the_rows_that_they_wrote() -> None:
    nests = [classify(einsum("ab,bc->ac", (n, 512), (512, 512), "f32", "f32"), 16, False) for n in (49, 196)]
    assert [in_panels(nest, Machine(512, 32), 2).splits for nest in nests] == [1, 2]


@pytest.mark.parametrize(("depth", "order"), [(5, "rows"), (20, "rows"), (21, "panels")])
@pytest.mark.parametrize("epilogue_on", [False, True])
def test_short_sums_are_written_row_by_row(depth: int, order: str, epilogue_on: bool) -> None:
    spec = einsum("ab,bc->ac", (131, depth), (depth, 203), "f32", "f32")
    assert choose(classify(spec, HOST.lanes("f32"), not epilogue_on), HOST).order == order
    check("ab,bc->ac", (131, depth), (depth, 203), epilogue_on=epilogue_on)


def test_from_128_summed_elements_on_a_far_matrix_is_read_in_passes() -> None:
    target = Machine(512, 32, second_cache=1 << 20)
    blocks = [
        choose(classify(einsum("ab,bc->ac", (11, k), (k, 2741), "f32", "f32"), 16, True), target).block
        for k in (128, 224)
    ]
    assert blocks == [128, 56]


@pytest.mark.parametrize("shape", [(64, 40, 200), (200, 40, 64), (72, 300, 333), (130, 33, 100)])
def test_rows_side_by_side(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    check("ba,bc->ac", (k, m), (k, n))
    check("ba,bc->ac", (k, m), (k, n), epilogue_on=True, pieces=2)
