"""Floats of 8 bits as a user meets them: creation, promotion, gradients, variables, checkpoints, other libraries."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import thalweg as tw
from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.runtime.tensorfile import TensorFile, write

NAMES = ("float8_e4m3fn", "float8_e5m2")
X = np.array([[1, -2.25, 0.3], [0.01, 100, -0.0]], np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_dtypes(name: str) -> None:
    dtype = getattr(tw, name)
    assert tw.isdtype(dtype, "real floating") and dtype.itemsize == 1
    assert tw.asarray(X.astype(name)).dtype == tw.asarray(X, dtype=dtype).dtype == dtype
    assert tw.zeros(3, dtype=name).dtype == dtype
    assert tw.can_cast(tw.int8, dtype) is False and tw.result_type(dtype, 1.5, tw.int32) == dtype
    assert tw.finfo(dtype).max == {"float8_e4m3fn": 448, "float8_e5m2": 57344}[name]


def test_python_numbers_are_weak_and_other_floats_are_not_mixed() -> None:
    x = tw.cast(X, tw.float8_e5m2)
    assert (x * 2).dtype == tw.float8_e5m2
    np.testing.assert_array_equal((x * 2).numpy(), (x.numpy().astype(np.float32) * 2).astype(x.numpy().dtype))
    for other in (tw.float32, tw.bfloat16, tw.float8_e4m3fn):
        with pytest.raises(TypeInferenceError, match=r"f8_e5m2 .*not mixed by themselves.*with tw\.astype"):
            x + tw.cast(X, other)


def test_products_of_both_formats_need_a_dtype() -> None:
    a, b = tw.cast(X, tw.float8_e4m3fn), tw.cast(X.T, tw.float8_e5m2)
    wide = [np.asarray(x).astype(np.float32) for x in (a, b)]
    np.testing.assert_allclose(tw.matmul(a, b, dtype=tw.float32).numpy(), wide[0] @ wide[1], 1e-6)
    assert tw.matmul(a, b, dtype=tw.bfloat16).dtype == tw.bfloat16 and (a @ a.T).dtype == tw.float8_e4m3fn
    with pytest.raises(TypeInferenceError, match="f8_e4m3fn and f8_e5m2"):
        a @ b
    with pytest.raises(TypeInferenceError, match="cannot accumulate f8_e4m3fn in i32"):
        tw.matmul(a, a.T, dtype=tw.int32)


@pytest.mark.parametrize("name", NAMES)
def test_ops_of_integers_refuse_them(name: str) -> None:
    with pytest.raises(TypeInferenceError, match=f"and: not defined for f8_{name[7:]}"):
        tw.bitwise_and(tw.cast(X, name), tw.cast(X, name))


@pytest.mark.parametrize("name", NAMES)
def test_cotangents_flow_through_casts(name: str) -> None:
    """The cotangent of what was cast is of its dtype, as of bfloat16: rounded on its way back."""
    weights = np.array([1, 0.3, -7], np.float32)

    def loss(x: tw.Tensor) -> tw.Tensor:
        return tw.sum(tw.cast(tw.cast(x, name), tw.float32) * weights)

    rounded = np.broadcast_to(weights.astype(name).astype(np.float32), X.shape)
    np.testing.assert_array_equal(tw.grad(loss)(X).numpy(), rounded)


def test_gradients_of_a_product_that_is_rounded_with_a_scale() -> None:
    """What training in 8 bits writes: e4m3 forward, e5m2 back, sums in float32, the scales its own."""

    @tw.custom_gradient
    def product(x: tw.Tensor, w: tw.Tensor):
        x8, w8 = tw.cast(x * 16, tw.float8_e4m3fn), tw.cast(w * 16, tw.float8_e4m3fn)

        def back(g: tw.Tensor):
            g8 = tw.cast(g * 64, tw.float8_e5m2)
            dx = tw.matmul(g8, w8.T, dtype=tw.float32) / (64 * 16)
            return dx, tw.matmul(x8.T, g8, dtype=tw.float32) / (64 * 16)

        return tw.matmul(x8, w8, dtype=tw.float32) / 256, back

    rng = np.random.default_rng(0)
    x, w, c = (rng.standard_normal(s).astype(np.float32) for s in ((33, 40), (40, 21), (33, 21)))
    found = tw.grad(lambda x, w: tw.sum(product(x, w) * c), argnums=(0, 1))(x, w)
    for got, want in zip(found, (c @ w.T, x.T @ c), strict=True):
        assert np.abs(got.numpy() - want).max() < 0.08 * np.abs(want).max()


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_kept_in_checkpoints(name: str, tmp_path) -> None:
    v = tw.Variable(tw.cast(X, name), name=f"v_{name}")
    tw.save(str(tmp_path / "kept"), {"v": v})
    v.assign(tw.zeros_like(v))
    tw.restore(str(tmp_path / "kept"), {"v": v})
    assert v.dtype == getattr(tw, name)
    np.testing.assert_array_equal(np.asarray(v), X.astype(name))


def test_files_name_them_as_safetensors_does(tmp_path) -> None:
    arrays = {name: X.astype(name) for name in NAMES}
    write(tmp_path / "x.safetensors", arrays)
    header = (tmp_path / "x.safetensors").read_bytes()[:400]
    assert b'"F8_E4M3"' in header and b'"F8_E5M2"' in header
    with TensorFile(tmp_path / "x.safetensors") as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.read(name), array)


@pytest.mark.parametrize("name", ["bfloat16", *NAMES])
def test_dlpack_has_codes_for_what_numpy_lacks(name: str) -> None:
    x = tw.cast(X, name)
    again = tw.from_dlpack(x)
    assert again.dtype == getattr(tw, name)
    np.testing.assert_array_equal(again.numpy(), x.numpy())


@pytest.mark.parametrize("name", NAMES)
def test_torch_takes_and_gives_them(name: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.from_dlpack(tw.cast(X, name))
    assert theirs.dtype == getattr(torch, name)
    np.testing.assert_array_equal(tw.from_dlpack(theirs).numpy(), X.astype(name))


@pytest.mark.parametrize("name", NAMES)
def test_random_numbers_of_all_digits(name: str) -> None:
    x = tw.random.uniform((4000,), seed=0, dtype=name).numpy().astype(np.float32)
    digits = tw.finfo(name).dtype.digits
    assert set(np.unique(x)) == {k / 2**digits for k in range(2**digits)}
    assert tw.random.normal((8,), seed=0, dtype=name).numpy().dtype == getattr(ml_dtypes, name)


def test_masked_scores_are_no_nan() -> None:
    q, k, v = (tw.cast(np.random.default_rng(n).standard_normal((1, 6, 4)), "float8_e4m3fn") for n in range(3))
    found = tw.nn.attention(q, k, v, causal=True).numpy().astype(np.float32)
    wide = tw.nn.attention(*(tw.cast(x, tw.float32) for x in (q, k, v)), causal=True).numpy()
    np.testing.assert_allclose(found, wide, 0.3, 0.2)
