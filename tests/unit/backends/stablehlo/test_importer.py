"""Reading modules in every form, and what `prepare` leaves of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thalweg.backends.stablehlo.artefact import serialize
from thalweg.backends.stablehlo.importer import import_module, prepare, read
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects.diagnostics import LoweringError, VerificationError
from thalweg.dialects.types import TensorType, float32

ADD = (
    "func.func @main(%a: tensor<3xf32>) -> tensor<3xf32> {{ %0 = {op} %a : tensor<3xf32>\n return %0 : tensor<3xf32> }}"
)
SQRT = ADD.format(op="stablehlo.sqrt")


def test_reads_text_path_artefact_and_text_in_bytes(tmp_path: Path) -> None:
    module = read(SQRT)
    path = tmp_path / "sqrt.mlir"
    path.write_text(SQRT)
    for source in (SQRT, path, SQRT.encode(), serialize(module)):
        assert "stablehlo.sqrt" in str(read(source))


def test_bytecode_that_is_no_artefact(tmp_path: Path) -> None:
    path = tmp_path / "sqrt.mlirbc"
    with path.open("wb") as file:
        read(SQRT).operation.write_bytecode(file)
    assert "stablehlo.sqrt" in str(read(path))


def test_text_that_does_not_parse_names_the_place() -> None:
    with pytest.raises(VerificationError, match=r":1:\d+"):
        read("func.func @main( oops")


def test_bytes_that_are_neither() -> None:
    with pytest.raises(VerificationError, match="neither MLIR bytecode nor UTF-8"):
        read(b"\xff\xfe\x00")


def test_the_only_public_function_becomes_main() -> None:
    assert "@main" in str(import_module(SQRT.replace("@main", "@f")))


def test_several_public_functions_need_a_main() -> None:
    with pytest.raises(LoweringError, match="no function @main; it has @f, @g"):
        import_module(SQRT.replace("@main", "@f") + "\n" + SQRT.replace("@main", "@g"))


def test_private_functions_are_inlined_and_the_original_kept() -> None:
    module = read(
        "func.func private @twice(%a: tensor<f32>) -> tensor<f32> { %0 = stablehlo.add %a, %a : tensor<f32>\n"
        " return %0 : tensor<f32> }\n"
        "func.func @main(%a: tensor<f32>) -> tensor<f32> { %0 = call @twice(%a) : (tensor<f32>) -> tensor<f32>\n"
        " return %0 : tensor<f32> }"
    )
    prepared = str(prepare(module))
    assert "call" not in prepared and "@twice" not in prepared
    assert "call @twice" in str(module)


def test_chlo_is_written_out() -> None:
    module = import_module(
        ADD.format(op="chlo.sinh").replace(": tensor<3xf32>\n", ": tensor<3xf32> -> tensor<3xf32>\n")
    )
    assert "chlo" not in str(module)
    x = np.array([-1.0, 0.0, 2.0], np.float32)
    np.testing.assert_allclose(evaluate(module, [x])[0], np.sinh(x), rtol=1e-6)


def test_composites_become_their_decomposition() -> None:
    text = (
        "func.func private @body(%a: tensor<f32>) -> tensor<f32> { %0 = stablehlo.negate %a : tensor<f32>\n"
        " return %0 : tensor<f32> }\n"
        'func.func @main(%a: tensor<f32>) -> tensor<f32> { %0 = stablehlo.composite "x.y" %a {decomposition = @body} '
        ": (tensor<f32>) -> tensor<f32>\n return %0 : tensor<f32> }"
    )
    assert "stablehlo.negate" in str(import_module(text))


OPEN = (
    "func.func @main(%a: tensor<?xf32>) -> tensor<?xf32> {\n"
    "%n = stablehlo.get_dimension_size %a, dim = 0 : (tensor<?xf32>) -> tensor<i32>\n"
    "%s = stablehlo.reshape %n : (tensor<i32>) -> tensor<1xi32>\n"
    "%i = stablehlo.dynamic_iota %s, dim = 0 : (tensor<1xi32>) -> tensor<?xf32>\n"
    "%0 = stablehlo.add %a, %i : tensor<?xf32>\n return %0 : tensor<?xf32> }"
)


def test_open_dimensions_are_filled_in() -> None:
    module = import_module(OPEN, [TensorType((3,), float32)])
    assert "?" not in str(module) and "dynamic" not in str(module)
    np.testing.assert_array_equal(evaluate(module, [np.ones(3, np.float32)])[0], [1, 2, 3])


def test_open_dimensions_need_types() -> None:
    with pytest.raises(LoweringError, match="Give the types of its arguments"):
        import_module(OPEN)


def test_unknown_custom_calls_are_refused_by_name_and_place() -> None:
    text = (
        "func.func @main(%a: tensor<f32>) -> tensor<f32> {\n"
        "%0 = stablehlo.custom_call @lapack_sgetrx_ffi(%a) : (tensor<f32>) -> tensor<f32>\n return %0 : tensor<f32> }"
    )
    with pytest.raises(LoweringError, match=r"loc\(.*@lapack_sgetrx_ffi.*did you mean 'lapack_sgetrf_ffi'"):
        import_module(text)
