"""What the command line names: programs, functions, types; and what is said when they cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg.dialects.diagnostics import ThalwegError
from thalweg.dialects.types import TensorType, bfloat16, bool_, float32, int32
from thalweg.tools.loading import LoadError, load, parse_types

F32 = TensorType((2, 3), float32)


def test_types() -> None:
    assert parse_types("f32[2,3]") == (F32,)
    assert parse_types("f32[2,3], i32[] ,bool[1],bfloat16[0]") == (
        F32, TensorType((), int32), TensorType((1,), bool_), TensorType((0,), bfloat16),
    )


@pytest.mark.parametrize("text", ["f32", "f32[2", "f32[a]", "f32[-1]", "f3[2]", "f32[2]]", "f32[2] i32[2]"])
def test_types_that_are_none(text: str) -> None:
    with pytest.raises(LoadError, match="Write f32"):
        parse_types(text)


def test_a_module_of_either_dialect(folder: Path) -> None:
    assert (load("tw.mlir").dialect, load("tw.mlir").name) == ("tw", "tw")
    subject = load("stablehlo.mlir")
    assert (subject.dialect, subject.inputs) == ("stablehlo", (TensorType((3,), float32),))


def test_open_dimensions_need_shapes(folder: Path) -> None:
    (folder / "open.mlir").write_text(
        "func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> {\n"
        "  %0 = stablehlo.abs %x : tensor<?xf32>\n  return %0 : tensor<?xf32>\n}\n"
    )
    assert load("open.mlir", "f32[5]").inputs == (TensorType((5,), float32),)
    with pytest.raises(Exception, match="open"):
        load("open.mlir")


def test_a_function_with_its_inputs_constants_and_variables(folder: Path) -> None:
    subject = load("model.py:step")
    assert subject.names == ("x",)
    assert subject.examples is not None
    assert subject.examples[0].shape == (4, 3)
    assert [v.shape for v in subject.variables.values()] == [(3, 2)]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("model.py", "name the function, too"),
        ("model.py:stpe", "no function 'stpe'; did you mean 'step'?"),
        ("modl.py:step", "no such file; did you mean 'model.py'?"),
        ("model.py:constant", "'constant' is a int, not a function"),
        ("model.py:f", "model.py:f takes a, b, and nothing says of which types. Give --shapes f32[2,3],f32[2,3]"),
        ("model.py:keyword", "model.py:keyword(*, x) cannot be called with 0 inputs: missing a required argument: 'x'"),
        ("dynamic.mlir", "dynamic.mlir: input 0 of @main: type tensor<?xf32> has a dynamic dimension"),
        ("tw.txt", "no function @main; there is @f"),
        ("binary.mlir", "neither MLIR text nor MLIR bytecode"),
    ],
)
def test_what_cannot_be_loaded(folder: Path, target: str, message: str) -> None:
    (folder / "tw.txt").write_text("func.func @f() { return }")
    (folder / "dynamic.mlir").write_text("func.func @main(%x: tensor<?xf32>) { return }")
    (folder / "binary.mlir").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LoadError) as error:
        load(target)
    assert message in str(error.value)


def test_the_users_own_exceptions_are_told_with_their_line(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"model\.py:34: in broken: NameError: name 'undefined_name'"):
        load("model.py:broken", "f32[2]")
    (folder / "raises.py").write_text("x = 1\nraise ValueError('no')\n")
    with pytest.raises(LoadError, match=r"raises\.py:2: in <module>: ValueError: no"):
        load("raises.py:f")
    (folder / "syntax.py").write_text("x = = 1\n")
    with pytest.raises(LoadError, match=r"syntax\.py:1: invalid syntax"):
        load("syntax.py:f")


def test_shapes_that_do_not_fit(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"has the types that it has \(f32\[3\]\)"):
        load("tw.mlir", "f32[4]")
    with pytest.raises(LoadError, match=r"step\(x\) cannot be called with 2 inputs"):
        load("model.py:step", "f32[4],f32[4]")
    with pytest.raises(ThalwegError, match="main takes 1 arguments, but 2 types were given"):
        load("stablehlo.mlir", "f32[4],f32[4]")


def test_a_function_without_arguments_needs_no_shapes(folder: Path) -> None:
    assert load("model.py:nothing").inputs == ()
