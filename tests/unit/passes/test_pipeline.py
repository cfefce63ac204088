"""Pipelines: text in and out, options, errors, instruments, reproducers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from ir_programs import program

from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import elementwise
from thalweg.dialects.types import TensorType, float32
from thalweg.passes import registry
from thalweg.passes.base import Pass
from thalweg.passes.pipeline import Pipeline, run
from thalweg.passes.pipelines import PIPELINES
from thalweg.passes.simplify import Simplify


def module() -> ir.Module:
    one = TensorType((3,), float32)
    return program([one], lambda x: [elementwise.exp(x), elementwise.exp(x)])


@pytest.mark.parametrize(
    "text",
    ["dce", "inline,hoist-state,differentiate,simplify", "simplify{max-iterations=3},mlir(canonicalize,cse)",
     "constant-fold{most-elements=7},mlir(func.func(cse))", ""],
)
def test_text_parses_back(text: str) -> None:
    assert str(Pipeline.parse(text)) == text
    assert Pipeline.parse(str(Pipeline.parse(text))) == Pipeline.parse(text)


def test_defaults_are_not_printed_and_spaces_do_not_matter() -> None:
    assert str(Pipeline.parse(" simplify{ max-iterations = 8 } , dce ")) == "simplify,dce"


def test_pipelines_may_be_named_in_pipelines() -> None:
    assert str(Pipeline.parse("optimize,dce")) == PIPELINES["optimize"] + ",dce"


@pytest.mark.parametrize("text", PIPELINES.values(), ids=PIPELINES.keys())
def test_named_pipelines_parse(text: str) -> None:
    assert Pipeline.parse(text).passes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("simplfy", "unknown pass 'simplfy'; did you mean 'simplify'?"),
        ("simplify{max-iteration=3}", "no option 'max-iteration'; did you mean 'max-iterations'?"),
        ("simplify{max-iterations=many}", "'max-iterations' takes a value of type int, got 'many'"),
        ("simplify{max-iterations=3", "unbalanced brackets"),
        ("dce}", "unbalanced brackets"),
        ("dce,,cse", "an empty pass name"),
        ("mlir(cse)x", "must end in ')'"),
    ],
)
def test_errors_say_what_to_do(text: str, message: str) -> None:
    with pytest.raises(PassError) as caught:
        Pipeline.parse(text)
    assert message in str(caught.value)


def test_upstream_pass_unknown_to_mlir_is_an_error() -> None:
    with pytest.raises(PassError, match=r"pass 'mlir' failed: .*no-such-pass"):
        run(module(), "mlir(no-such-pass)")


@pytest.mark.parametrize("name", registry.PASSES)
def test_every_pass_is_found_and_documented(name: str) -> None:
    found = registry.find(name)
    assert found.name == name
    assert found.summary().endswith((".", ":"))
    doc = found.__doc__ or ""
    assert "Before:" in doc and "After:" in doc


def test_unknown_pass_suggests_the_nearest() -> None:
    with pytest.raises(PassError, match="did you mean 'inline'"):
        registry.find("inlin")


def test_options_become_fields() -> None:
    assert Simplify.from_options({"max-iterations": "3"}) == Simplify(max_iterations=3)


def test_run_says_whether_anything_changed() -> None:
    built = module()
    assert run(built, "cse")
    assert not run(built, "cse,dce")


def test_instruments_see_every_pass() -> None:
    seen: list[tuple[str, str, bool | None]] = []

    class Watch:
        def before(self, pass_: Pass, module: ir.Module) -> None:
            seen.append(("before", str(pass_), None))

        def after(self, pass_: Pass, module: ir.Module, seconds: float, changed: bool) -> None:
            assert seconds >= 0
            seen.append(("after", str(pass_), changed))

    Pipeline.parse("cse,dce").run(module(), instruments=[Watch()])
    assert seen == [("before", "cse", None), ("after", "cse", True), ("before", "dce", None), ("after", "dce", False)]


@dataclass(frozen=True)
class Spoil(Pass):
    """Build an op that its row does not allow."""

    name: ClassVar[str] = "spoil"

    def run(self, module: ir.Module) -> bool:
        block = module.body.operations[0].regions[0].blocks[0]
        with ir.InsertionPoint.at_block_begin(block), ir.Location.unknown():
            wrong = ir.RankedTensorType.get([7], ir.F32Type.get())
            ir.Operation.create("tw.exp", results=[wrong], operands=[block.arguments[0]])
        return True


def test_an_invalid_module_is_blamed_on_its_pass() -> None:
    with pytest.raises(PassError, match=r"pass 'spoil' left an invalid module: .*tw.exp.*f32\[7\]"):
        Pipeline((Spoil(),)).run(module())
    assert Pipeline((Spoil(),)).run(module(), verify_each=False)


@dataclass(frozen=True)
class Crash(Pass):
    """Fail."""

    name: ClassVar[str] = "crash"

    def run(self, module: ir.Module) -> bool:
        raise RuntimeError("no more")


def test_a_crash_leaves_a_reproducer(tmp_path: Path) -> None:
    path = tmp_path / "bug.mlir"
    with pytest.raises(PassError, match=r"pass 'crash' failed: RuntimeError: no more .*bug.mlir"):
        Pipeline((*Pipeline.parse("cse").passes, Crash(), *Pipeline.parse("dce").passes)).run(
            module(), reproducer=path
        )
    text = path.read_text()
    assert "--pipeline 'crash,dce'" in text.splitlines()[0]
    assert text.count('"tw.exp"') == 1, "the module from before the pass that failed, after cse"
    assert ir.Module.parse(text, context=module().context)
