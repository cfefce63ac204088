"""Which ops are compiled together, and in which order what is left may run."""

from __future__ import annotations

import numpy as np
import pytest
from ir_programs import program

from thalweg.backends.reference import run
from thalweg.dialects import context
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.types import TensorType, float32
from thalweg.dialects.verify import parse
from thalweg.passes.cluster import outlined
from thalweg.passes.dependences import after_of, name_of
from thalweg.passes.pipeline import run as run_passes
from thalweg.passes.rewriting import body_of, functions, inside, operations

F = "tensor<4xf32>"
BIG = "tensor<1024x1024xf32>"
HANDLE = f'%w = "tw.variable_handle"() {{name = "w", shape = array<i64: 4>, dtype = f32}} : () -> !tw.variable<{F}>'
READ = f'(!tw.variable<{F}>) -> {F}'
WRITE = f'(!tw.variable<{F}>, {F}) -> ()'


def send(value: str, edge: str, type_: str = F) -> str:
    return f'"tw.send"({value}) {{edge = "{edge}", source = "a", target = "b"}} : ({type_}) -> ()'


def recv(result: str, edge: str) -> str:
    attrs = f'edge = "{edge}", source = "b", target = "a", shape = array<i64: 4>, dtype = f32'
    return f'%{result} = "tw.recv"() {{{attrs}}} : () -> {F}'


def clustered(*lines: str, arguments: str = f"%x: {F}", grain: int = 200) -> list[str]:
    """What remains at the top: for a cluster the names of its ops, for a host op its own."""
    with context.entered():
        module = parse("\n".join([f"func.func @main({arguments}) {{", *lines, "return", "}"]))
        run_passes(module, f"cluster{{grain={grain}}}")
        return [_shown(op) for op in operations(functions(module)[0])[:-1]]


def _shown(op: ir.Operation) -> str:
    if op.name != "tw.cluster":
        return op.name.removeprefix("tw.")
    inner = [o.name.removeprefix("tw.") for outer in operations(body_of(op)) for o in inside(outer)]
    after = f" after {' '.join(after_of(op))}" if after_of(op) else ""
    return f"{name_of(op)}: {' '.join(n for n in inner if n not in ('yield', 'variable_handle', 'constant'))}{after}"


LONG = [
    f'%a = "tw.exp"(%x) : ({BIG}) -> {BIG}',
    f'%b = "tw.tanh"(%a) : ({BIG}) -> {BIG}',
    f'%c = "tw.sin"(%b) : ({BIG}) -> {BIG}',
    send("%a", "e", BIG),
    send("%c", "f", BIG),
]


def test_what_is_sent_does_not_wait_for_long_work_that_it_does_not_need() -> None:
    assert clustered(*LONG, arguments=f"%x: {BIG}") == [
        "cluster/0: exp", "send", "cluster/1: tanh sin", "send",
    ]  # fmt: skip
    assert clustered(*LONG, arguments=f"%x: {BIG}", grain=10_000_000) == ["cluster/0: exp tanh sin", "send", "send"]


def test_short_work_is_not_cut() -> None:
    assert clustered(*[line.replace(BIG, F) for line in LONG]) == ["cluster/0: exp tanh sin", "send", "send"]


def test_long_work_at_the_end_is_cut_off_once() -> None:
    small = [f'%v{i} = "tw.exp"({"%x" if not i else f"%v{i - 1}"}) : ({F}) -> {F}' for i in range(8)]
    long = [f'%b = "tw.tanh"(%y) : ({BIG}) -> {BIG}', f'%c = "tw.sin"(%b) : ({BIG}) -> {BIG}']
    sends = [send(f"%v{i}", f"e{i}") for i in range(8)]
    found = clustered(*small, *long, *sends, arguments=f"%x: {F}, %y: {BIG}")
    assert sorted(found) == ["cluster/0: " + " ".join(["exp"] * 8), "cluster/1: tanh sin", *["send"] * 8]


def test_an_assignment_does_not_wait_for_the_use_of_what_was_read_before() -> None:
    """The second value is sent away, and comes back to where the first is used: to read that late would never end."""
    found = clustered(
        HANDLE,
        f'%0 = "tw.read"(%w) : {READ}',
        f'"tw.assign"(%w, %x) : {WRITE}',
        f'%1 = "tw.read"(%w) : {READ}',
        send("%1", "e"),
        recv("2", "f"),
        f'%3 = "tw.add"(%0, %2) : ({F}, {F}) -> {F}',
        send("%3", "g"),
    )
    assert found == ["cluster/0: read assign read", "send", "recv", "cluster/1: add", "send"]


def test_ops_of_one_branch_are_not_compiled_with_those_of_the_other() -> None:
    found = clustered(
        f'%f, %t = "tw.switch"(%x, %p) : ({F}, tensor<i1>) -> ({F}, {F})',
        f'%0 = "tw.exp"(%f) : ({F}) -> {F}',
        f'%1 = "tw.neg"(%t) : ({F}) -> {F}',
        f'%m, %i = "tw.merge"(%0, %1) : ({F}, {F}) -> ({F}, tensor<i32>)',
        f'%2 = "tw.sin"(%m) : ({F}) -> {F}',
        send("%2", "e"),
        arguments=f"%x: {F}, %p: tensor<i1>",
    )
    assert found == ["switch", "cluster/0: exp", "cluster/1: neg", "merge", "cluster/2: sin", "send"]


def test_groups_that_would_wait_for_each_other_are_taken_apart() -> None:
    """`exp` and the last assignment run always and wait for the same, but the op between them runs in one branch."""
    found = clustered(
        HANDLE,
        f'%f, %t = "tw.switch"(%x, %p) : ({F}, tensor<i1>) -> ({F}, {F})',
        f'%m, %i = "tw.merge"(%f, %t) : ({F}, {F}) -> ({F}, tensor<i32>)',
        f'%0 = "tw.exp"(%m) : ({F}) -> {F}',
        f'%1 = "tw.add"(%0, %t) : ({F}, {F}) -> {F}',
        f'"tw.assign"(%w, %1) : {WRITE}',
        f'"tw.assign_add"(%w, %0) : {WRITE}',
        arguments=f"%x: {F}, %p: tensor<i1>",
    )
    assert found[:2] == ["switch", "merge"]
    assert [line.split(": ")[1] for line in found[2:]] == ["exp", "add", "assign", "assign_add after cluster/2"]


def test_a_counter_is_counted_with_the_rest() -> None:
    found = clustered(
        HANDLE,
        f'"tw.assign_add"(%w, %x) : {WRITE}',
        recv("1", "e"),
        f'%2 = "tw.exp"(%1) : ({F}) -> {F}',
        send("%2", "f"),
    )
    assert found == ["recv", "cluster/0: assign_add exp", "send"]


def test_host_ops_come_after_what_they_name() -> None:
    with context.entered():
        module = parse(f"""func.func @main(%x: {F}) {{
          {HANDLE}
          "tw.assign"(%w, %x) {{tw.name = "first"}} : {WRITE}
          "tw.send"(%x) {{edge = "e", source = "a", target = "b", tw.after = ["first"], tw.name = "s"}} : ({F}) -> ()
          "tw.assign_add"(%w, %x) {{tw.after = ["s"]}} : {WRITE}
          return
        }}""")
        run_passes(module, "cluster")
        first, sent, last = operations(functions(module)[0])[:-1]
        assert (name_of(first), name_of(sent), name_of(last)) == ("cluster/0", "s", "cluster/1")
        assert after_of(sent) == ["cluster/0"]
        assert after_of(last) == ["cluster/0", "s"]


def test_to_come_after_what_is_not_there() -> None:
    with pytest.raises(PassError, match=r"tw\.send is to run after 'gone', which is not there"):
        clustered(send("%x", "e").replace("edge =", 'tw.after = ["gone"], edge ='))


def test_a_host_op_in_a_region() -> None:
    with pytest.raises(PassError, match=r"send runs on the host, but stands inside of cond.*Run the pass lower"):
        clustered(
            f'"tw.cond"(%p) ({{ {send("%x", "e")} "tw.yield"() : () -> () }}, {{ "tw.yield"() : () -> () }})'
            " : (tensor<i1>) -> ()",
            arguments=f"%x: {F}, %p: tensor<i1>",
        )


def test_clustering_twice_changes_nothing() -> None:
    with context.entered():
        module = parse("\n".join([f"func.func @main(%x: {F}) {{", LONG[0].replace(BIG, F), "return", "}"]))
        run_passes(module, "cluster")
        once = str(module)
        run_passes(module, "cluster")
        assert str(module) == once


def test_outlined_clusters_are_programs() -> None:
    with context.entered():
        module = program([TensorType((3,), float32)], lambda x: ew.add(ew.exp(x), x))
        x = np.arange(3, dtype=np.float32)
        (wanted,) = run(module, [x])
        run_passes(module, "cluster")
        (found,) = run(outlined(operations(functions(module)[0])[0]), [x])
    np.testing.assert_array_equal(found, wanted)
