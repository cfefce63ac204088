"""Elementary functions against the C library's long double, in units in the last place, and at the edges."""

from __future__ import annotations

import math
import platform

import llvmlite.binding as llvm
import numpy as np
import pytest
from cpu_programs import Array, compiled, main

from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.vector_math import OWN_FUNCTIONS

SIZE = 1 << 12
LONG = np.longdouble

# op, reference, units in the last place allowed for f32 and f64
FUNCTIONS = {
    "exponential": (np.exp, 2.0, 2.0),
    "exponential_minus_one": (np.expm1, 2.0, 2.5),
    "log": (np.log, 2.0, 2.0),
    "log_plus_one": (np.log1p, 2.0, 2.0),
    "tanh": (np.tanh, 5.0, 4.0),
    "sine": (np.sin, 2.0, 2.0),
    "cosine": (np.cos, 2.0, 2.0),
    "tan": (np.tan, 4.0, 4.0),
    "cbrt": (np.cbrt, 1.0, 3.0),
    "power": (np.power, 1.0, 1.0),
    "atan2": (np.arctan2, 4.0, 3.0),
    "sqrt": (np.sqrt, 0.5, 0.5),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 2.0, 2.0),
    "asin": (np.arcsin, 3.0, 2.5),
    "acos": (np.arccos, 2.0, 2.0),
    "atan": (np.arctan, 3.0, 2.5),
    "exp2": (np.exp2, 1.5, 1.5),
    "erf": (np.vectorize(lambda x: LONG(math.erf(x)), otypes=[LONG]), 0.0, 4.0),
}
BINARY = {"power", "atan2"}
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, np.inf, -np.inf, np.nan, 1e-8, -1e-8, 88.7, -88, -103.5]


def function(op: str, element: str) -> str:
    count = 2 if op in BINARY else 1
    kind = f"{SIZE}x{element}"
    names, types = ", ".join(f"%{k}" for k in range(count)), ", ".join([f"tensor<{kind}>"] * count)
    dialect = "tw" if (op, element) in OWN_FUNCTIONS else "stablehlo"
    call = f'%r = "{dialect}.{op}"({names}) : ({types}) -> tensor<{kind}>'
    return main([kind] * count, [kind], f"{call}\nreturn %r : tensor<{kind}>")


def samples(op: str, dtype: type) -> list[list[Array]]:
    """Lists of arguments: ordinary ranges, all magnitudes, and the edges."""
    rng = np.random.default_rng(0)
    count = 2 if op in BINARY else 1
    info = np.finfo(dtype)
    edges = np.array([*EDGES, info.tiny, -info.tiny, info.max, -info.max], dtype)
    pairs = np.meshgrid(edges, edges) if count == 2 else [edges]
    every = [[np.resize(p.ravel(), SIZE) for p in pairs]]
    for low, high in ((-1, 1), (-20, 20), (-110, 110)):
        every.append([rng.uniform(low, high, SIZE).astype(dtype) for _ in range(count)])
    magnitudes = 10.0 ** rng.uniform(-37, 37, (count, SIZE)) * rng.choice([-1, 1], (count, SIZE))
    every.append(list(magnitudes.astype(dtype)))
    return every


def processors() -> list[str]:
    """This one, and those with fewer instructions whose code it runs."""
    older = {"x86-64": (), "x86-64-v3": ("avx2", "fma")} if platform.machine() in ("x86_64", "AMD64") else {}
    present = llvm.get_host_cpu_features()
    return ["", *(name for name, needed in older.items() if all(present.get(feature) for feature in needed))]


@pytest.mark.parametrize(("element", "dtype"), [("f32", np.float32), ("f64", np.float64)])
@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("cpu", processors())
def test_function(op: str, element: str, dtype: type, cpu: str) -> None:
    reference, *allowed = FUNCTIONS[op]
    if op in ("erf", "atan") and element == "f32":
        pytest.skip("computed by what StableHLO makes of it")
    program = compiled(function(op, element), CpuOptions(threads=1, cpu=cpu))
    for arguments in samples(op, dtype):
        (found,) = program(arguments)
        with np.errstate(all="ignore"):
            exact = reference(*(x.astype(LONG) for x in arguments))
            expected = exact.astype(dtype)
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
            finite = np.isfinite(expected)
            infinite = np.isinf(expected)
            np.testing.assert_array_equal(found[infinite], expected[infinite])
            zero = finite & (expected == 0) & (found == 0)
            np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(expected[zero]))
            unit = np.spacing(np.abs(expected[finite])).astype(LONG)
            error = np.abs(found[finite].astype(LONG) - exact[finite]) / unit
        assert error.max() <= allowed[element == "f64"], f"{arguments[0][finite][error.argmax()]!r}"


def test_large_powers_of_numbers_near_one() -> None:
    """Where the logarithm needs more digits than the result has."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0.7, 1.5, SIZE)
    y = rng.uniform(-680, 680, SIZE) / np.log(x)
    (found,) = compiled(function("power", "f64"), CpuOptions(threads=1))([x, y])
    exact = np.power(x.astype(LONG), y.astype(LONG))
    assert (np.abs(found - exact) / np.spacing(exact.astype(np.float64))).max() <= 1.1


def test_rounding_halves_away_from_zero() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -2.5, 0.49999997, 8388609.0, np.inf] * (SIZE // 8), np.float32)
    (found,) = compiled(function("round_nearest_afz", "f32"))([x])
    np.testing.assert_array_equal(found[:8], np.array([1, 2, 3, -1, -3, 0, 8388609, np.inf], np.float32))


def test_tanh_is_one_where_it_rounds_to_one_and_exact_where_small() -> None:
    """1 - tanh must be 0, and the sign and all bits of small numbers be kept."""
    large, small = np.array([8.7, 9.0, 20.0, 1e30, np.inf], np.float32), np.array([1e-5, 1e-20, 1e-40, 0.0], np.float32)
    x = np.resize(np.concatenate([large, -large, small, -small]), SIZE)
    (found,) = compiled(function("tanh", "f32"))([x])
    expected = np.concatenate([np.ones(5), -np.ones(5), small, -small]).astype(np.float32)
    assert found[:18].tobytes() == expected.tobytes()


@pytest.mark.parametrize(("element", "dtype", "least"), [("f32", np.float32, -103.9), ("f64", np.float64, -745.1)])
def test_exponentials_below_the_smallest_number_are_zero(element: str, dtype: type, least: float) -> None:
    x = np.resize(np.array([least, least - 1, -1e9, -np.finfo(dtype).max, -np.inf], dtype), SIZE)
    (found,) = compiled(function("exponential", element))([x])
    assert found[0] == np.finfo(dtype).smallest_subnormal and not found[1:5].any()
