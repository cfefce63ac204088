"""Placement: requests, what must be together, choices, and what is said where it cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.compiler import driver
from thalweg.dialects import context
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.verify import parse
from thalweg.frontend.subgraph import cut
from thalweg.passes.dependences import device_of, name_of
from thalweg.passes.pipeline import run
from thalweg.passes.place import spans
from thalweg.passes.rewriting import functions, inside, operations

F = "tensor<4xf32>"
MATRIX = "tensor<1024x1024xf32>"
VARIABLE = f"!tw.variable<{F}>"
ROWS = "tensor<4x1024xf32>"
OUTER = "lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>, lhs_batch = array<i64>, rhs_batch = array<i64>"


def at(scope: str, line: int) -> str:
    return f'loc("@{scope}"("f"("m.py":{line}:0)))' if scope else f'loc("f"("m.py":{line}:0))'


def op(result: str, name: str, *operands: str, scope: str = "", line: int = 1, attrs: str = "", type_: str = F) -> str:
    types = ", ".join([type_] * len(operands))
    given = f"{{{attrs}}}" if attrs else ""
    return f'%{result} = "tw.{name}"({", ".join(operands)}) {given} : ({types}) -> {type_} {at(scope, line)}'


def handle(result: str, name: str, scope: str = "", line: int = 1) -> str:
    attrs = f'name = "{name}", shape = array<i64: 4>, dtype = f32'
    return f'%{result} = "tw.variable_handle"() {{{attrs}}} : () -> {VARIABLE} {at(scope, line)}'


def read(result: str, variable: str, scope: str = "", line: int = 1) -> str:
    return f'%{result} = "tw.read"({variable}) : ({VARIABLE}) -> {F} {at(scope, line)}'


def placed(*lines: str, devices: str = "cpu:2", costs: str = "", arguments: str = f"%x: {F}") -> dict[str, str]:
    """The device of each op, by the op's name or, if it has none, `tw.name`."""
    text = "\n".join([f"func.func @main({arguments}) {{", *lines, "return", "}"])
    with context.entered():
        module = parse(text)
        run(module, f"place{{devices={devices}{f',costs={costs}' if costs else ''}}}")
        ops = [o for outer in operations(functions(module)[0])[:-1] for o in inside(outer)]
        return {name_of(o) or o.name.removeprefix("tw."): device_of(o) for o in ops if "tw.device" in o.attributes}


def named(name: str) -> str:
    return f'tw.name = "{name}"'


def test_partial_requests_leave_a_choice() -> None:
    found = placed(
        op("a", "exp", "%x", scope="/job:ps"),
        op("b", "neg", "%x", scope="/job:worker/task:1"),
        op("c", "tanh", "%x", scope="/device:GPU"),
        op("d", "sin", "%x", scope="/job:worker/device:CPU:0"),
        devices="/job:ps/task:0/cpu:0;/job:worker/task:0..1/cpu:0;/job:worker/task:1/gpu:0",
    )
    assert found["exp"] == "/job:ps/task:0/device:CPU:0"
    assert found["neg"].startswith("/job:worker/task:1/device:")
    assert found["tanh"] == "/job:worker/task:1/device:GPU:0"
    assert found["sin"] == "/job:worker/task:0/device:CPU:0"


def test_state_is_on_the_first_device_it_may_be_on_whatever_the_step_does() -> None:
    lines = [handle("w", "w", "/job:ps"), read("v", "%w")]
    heavy = [op("y", "exp", "%v", scope="/job:worker/task:0", attrs=named("y"))]
    devices = "/job:worker/task:0/cpu:0;/job:ps/task:0..1/cpu:0"
    assert placed(*lines, devices=devices)["read"] == "/job:ps/task:0/device:CPU:0"
    assert placed(*lines, *heavy, devices=devices)["read"] == "/job:ps/task:0/device:CPU:0"


def test_what_uses_state_goes_there_whatever_it_asks_for() -> None:
    found = placed(handle("w", "w", "cpu:1"), read("v", "%w", "cpu:0"))
    assert found == {"variable_handle": "/device:CPU:1", "read": "/device:CPU:1"}


def test_one_variable_declared_twice_is_in_one_place() -> None:
    found = placed(handle("w", "w", "cpu:1"), handle("u", "w"), read("v", "%u"))
    assert set(found.values()) == {"/device:CPU:1"}


def test_state_that_is_asked_for_in_two_places() -> None:
    with pytest.raises(PassError) as error:
        placed(handle("w", "w", "cpu:0", line=3), handle("u", "w", "cpu:1", line=7))
    assert str(error.value) == (
        "m.py:3: in f(): variable_handle 'w' asks for cpu:0, and m.py:7: in f(): variable_handle 'w' asks for cpu:1, "
        "but both must be on one device, since both are 'w'. Ask for the same device, or leave one of them out."
    )


def test_colocation_against_a_request() -> None:
    together = op("b", "neg", "%a", scope="colocate:a", line=5, attrs=named("b"))
    found = placed(op("a", "exp", "%x", scope="cpu:1", attrs=named("a")), together)
    assert found == {"a": "/device:CPU:1", "b": "/device:CPU:1"}
    with pytest.raises(PassError, match=r"m.py:5: in f\(\): neg 'b' is to be with 'aa', which is not there; did"):
        placed(op("a", "exp", "%x", attrs=named("a")), together.replace("colocate:a", "colocate:aa"))


def test_colocation_that_joins_what_cannot_be_together() -> None:
    """The third op asks to be with two that are on different devices: once by its scope, once by what it uses."""
    with pytest.raises(PassError, match=r"m.py:4: .* asks for cpu:1, and m.py:2: .* asks for cpu:0, but both must be"):
        placed(
            op("a", "exp", "%x", scope="cpu:0", line=2, attrs=named("a")),
            handle("w", "w", "cpu:1", line=4),
            op("b", "neg", "%x", scope="colocate:a", line=5, attrs=named("b")),
            op("c", "sin", "%x", scope="colocate:w", line=6, attrs=named("b")).replace('"b"', '"c"'),
            handle("u", "u", "colocate:b", line=7),
            handle("t", "u", "colocate:c", line=8),
        )


@pytest.mark.parametrize(("scope", "message"), [
    ("gpu:0", "m.py:9: in f(): exp asks for gpu:0, which is not there. The devices are /device:CPU:0, /device:CPU:1."),
    ("/job:ps", "exp asks for /job:ps, which is not there"),
    ("a device", "m.py:9: in f(): exp: 'a device' is not a device; write for example"),
])  # fmt: skip
def test_requests_that_nothing_meets(scope: str, message: str) -> None:
    with pytest.raises(PassError, match=re.escape(message)):
        placed(op("a", "exp", "%x", scope=scope, line=9))


def test_host_ops_are_on_cpus() -> None:
    send = f'"tw.send"(%x) {{edge = "e", source = "a", target = "b"}} : ({F}) -> () '
    devices = "gpu:1;cpu:1"
    assert placed(send + at("", 1), devices=devices)["send"] == "/device:CPU:0"
    assert placed(send + at("gpu:0", 4), devices=devices)["send"] == "/device:CPU:0", "on the host of that accelerator"
    with pytest.raises(PassError, match=r"m.py:4: in f\(\): send asks for gpu:1, which is not there"):
        placed(send + at("gpu:1", 4), devices=devices)
    with pytest.raises(PassError, match="send runs on the host, but there is no CPU"):
        placed(send + at("", 1), devices="gpu:1")


def test_small_ops_do_not_go_back_and_forth() -> None:
    """Between ops on two devices, what is small and asks for nothing stays with the one before it."""
    lines, last = [], "%x"
    for number in range(40):
        scope = f"cpu:{number // 10 % 2}" if number % 10 == 0 else ""
        lines.append(op(f"v{number}", "exp", last, scope=scope, attrs=named(f"v{number}")))
        last = f"%v{number}"
    found = [device for _, device in sorted(placed(*lines).items(), key=lambda item: int(item[0][1:]))]
    assert found == [f"/device:CPU:{number // 10 % 2}" for number in range(40)]


def test_what_is_made_of_inputs_goes_where_it_is_taken() -> None:
    found = placed(op("a", "exp", "%x"), op("b", "neg", "%a", scope="cpu:1"))
    assert found == {"exp": "/device:CPU:1", "neg": "/device:CPU:1"}


def test_long_work_goes_where_its_result_is_wanted() -> None:
    dot = op("a", "dot_general", "%x", "%x", attrs=OUTER, type_=MATRIX)
    dot = dot.replace(f"({MATRIX}, {MATRIX})", f"({ROWS}, {ROWS})")
    found = placed(
        dot, op("b", "exp", "%a", type_=MATRIX), op("c", "neg", "%b", scope="/job:b", type_=MATRIX),
        devices="/job:a/task:0/cpu:0;/job:b/task:0/cpu:0", arguments=f"%x: {ROWS}",
    )  # fmt: skip
    assert found["dot_general"] == "/job:b/task:0/device:CPU:0"


def test_measured_costs_change_the_choice(tmp_path: Path) -> None:
    """Two small ops stay together, until one of them is known to take long."""
    lines = [op("a", "exp", "%x", attrs=named("a")), op("b", "neg", "%x", attrs=named("b"))]
    assert set(placed(*lines).values()) == {"/device:CPU:0"}
    file = tmp_path / "costs.json"
    file.write_text(json.dumps({"a": 0.5, "b": 0.5}))
    assert placed(*lines, costs=str(file)) == {"a": "/device:CPU:0", "b": "/device:CPU:1"}


@pytest.mark.parametrize("content", ["[1]", '{"a": "long"}', "no json", '{"a": -1}'])
def test_costs_that_are_none(content: str, tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text(content)
    with pytest.raises(PassError, match=re.escape(str(file))):
        placed(op("a", "exp", "%x"), costs=str(file))


def test_placing_twice_changes_nothing() -> None:
    with context.entered():
        body = [op("a", "exp", "%x", scope="cpu:1"), op("b", "neg", "%a")]
        module = parse("\n".join([f"func.func @main(%x: {F}) {{", *body, "return", "}"]))
        run(module, "place{devices=cpu:2}")
        once = str(module)
        run(module, "place{devices=cpu:2}")
        assert str(module) == once


def _spans(true: str, false: str) -> bool:
    branch = "({ %a = \"tw.exp\"(%x) : (FF) -> FF ONE \"tw.yield\"(%a) : (FF) -> () }, {" \
             " %a = \"tw.neg\"(%x) : (FF) -> FF TWO \"tw.yield\"(%a) : (FF) -> () })"
    text = branch.replace("FF", F).replace("ONE", at(true, 1)).replace("TWO", at(false, 2))
    module = parse(
        f'func.func @main(%p: tensor<i1>, %x: {F}) {{ %0 = "tw.cond"(%p) {text} : (tensor<i1>) -> {F} return }}'
    )
    return spans(operations(functions(module)[0])[0])


@pytest.mark.parametrize(("true", "false", "wanted"), [
    ("", "", False), ("cpu:0", "", False), ("cpu:0", "cpu:1", True), ("/job:a", "/device:CPU:0", False),
    ("/job:a", "/job:b/task:0", True), ("colocate:w", "", False), ("colocate:w", "cpu:0", True),
])  # fmt: skip
def test_what_spans_devices(true: str, false: str, wanted: bool) -> None:
    with context.entered():
        assert _spans(true, false) == wanted


def test_state_without_a_request_is_where_every_step_finds_it() -> None:
    """An optimiser's counter, which steps of both workers count up."""
    graph = tw.Graph()
    with graph.as_default():
        with tw.device("/job:ps/task:0"):
            w = tw.Variable(np.ones((4,), np.float32), name="w")
        optimizer = tw.optim.SGD(0.1)
        steps = []
        for task in range(2):
            with tw.device(f"/job:worker/task:{task}"):
                steps.append(optimizer.apply([(w * 2.0, w)]))
    devices = "/job:worker/task:0..1/cpu:0;/job:ps/task:0/cpu:0"
    for step in steps:
        parts = driver().cut(cut(graph, "step", [step], []), devices).texts()
        homes = {text.partition('tw.device = "')[2].partition('"')[0] for text in parts if 'name = "step' in text}
        assert homes == {"/job:worker/task:0/device:CPU:0"}


def test_small_work_on_a_size_stays_with_what_has_it() -> None:
    """The mean over an open batch: its few numbers are not sent to where constants happen to be."""
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (None, 8), name="x")
        with tw.device("cpu:1"):
            w = tw.Variable(np.ones((8, 4), np.float32), name="open_mean")
        mean = tw.mean(x @ w)
    parts = driver().cut(cut(graph, "mean", [mean], [x]), "cpu:2").parts
    assert not any("tw.send" in str(part) for part in parts)
