"""The namespaces that `benchmarks.sweep` runs its programs with: `thalweg`, `jax.numpy` and `torch`, the latter two
behind the few names that they spell otherwise, by the array API's names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def jax_names() -> Any:
    """`jax.numpy`, with what it keeps elsewhere."""
    import jax
    import jax.numpy as jnp

    class JaxNames:
        softmax, log_softmax, one_hot = (
            staticmethod(getattr(jax.nn, n)) for n in ("softmax", "log_softmax", "one_hot")
        )
        relu, sigmoid, silu = (staticmethod(getattr(jax.nn, n)) for n in ("relu", "sigmoid", "silu"))
        gelu = staticmethod(lambda x: jax.nn.gelu(x, approximate=False))
        erf, logsumexp = staticmethod(jax.scipy.special.erf), staticmethod(jax.scipy.special.logsumexp)
        rsqrt = staticmethod(jax.lax.rsqrt)

        def __getattr__(self, name: str) -> Any:
            return getattr(jnp, name)

        def cumulative_max(self, x: Any, axis: int) -> Any:
            return jax.lax.cummax(x, axis=axis % x.ndim)

        def top_k(self, x: Any, k: int) -> Any:
            return jax.lax.top_k(x, k)[0]

        def add_rows(self, x: Any, indices: Any, values: Any) -> Any:
            return x.at[indices].add(values)

        def set_rows(self, x: Any, indices: Any, values: Any) -> Any:
            return x.at[indices].set(values)

        def split(self, x: Any, parts: int, axis: int) -> Any:
            return jnp.split(x, parts, axis)

        def uniform(self, shape: tuple[int, ...]) -> Any:
            return jax.random.uniform(jax.random.key(0), shape)

        def normal(self, shape: tuple[int, ...]) -> Any:
            return jax.random.normal(jax.random.key(0), shape)

        def dropout(self, x: Any) -> Any:
            return jnp.where(jax.random.bernoulli(jax.random.key(0), 0.9, x.shape), x / 0.9, 0)

    return JaxNames()


def thalweg_names() -> Any:
    """`thalweg`, with `thalweg.nn`."""
    import thalweg as tw

    class ThalwegNames:
        relu, gelu, silu = (staticmethod(getattr(tw.nn, n)) for n in ("relu", "gelu", "silu"))

        def __getattr__(self, name: str) -> Any:
            return getattr(tw, name)

        def top_k(self, x: Any, k: int) -> Any:
            return tw.top_k(x, k)[0]

        def add_rows(self, x: Any, indices: Any, values: Any) -> Any:
            return x.at[indices].add(values)

        def set_rows(self, x: Any, indices: Any, values: Any) -> Any:
            return x.at[indices].set(values)

        def uniform(self, shape: tuple[int, ...]) -> Any:
            return tw.random.uniform(shape, seed=0)

        def normal(self, shape: tuple[int, ...]) -> Any:
            return tw.random.normal(shape, seed=0)

        def dropout(self, x: Any) -> Any:
            return tw.nn.dropout(x, 0.1, tw.random.key(0))

    return ThalwegNames()


def torch_names() -> Any:
    """`torch`, with the array API's names."""
    import torch

    functional: Any = torch.nn.functional

    class TorchNames:
        relu, silu, cross_entropy_loss = (
            staticmethod(getattr(functional, n)) for n in ("relu", "silu", "cross_entropy")
        )
        astype = staticmethod(lambda x, dtype: x.to(dtype))
        bool, concat = torch.bool, torch.concat
        expand_dims, permute_dims = torch.unsqueeze, torch.permute
        where = staticmethod(torch.where)

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        def gelu(self, x: Any) -> Any:
            return functional.gelu(x)

        def max(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
            return torch.amax(x, () if axis is None else axis, keepdims)

        def min(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
            return torch.amin(x, () if axis is None else axis, keepdims)

        def prod(self, x: Any, axis: Any = None) -> Any:
            return torch.prod(x) if axis is None else torch.prod(x, axis)

        def var(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
            return torch.var(x, axis, correction=0, keepdim=keepdims)

        def logsumexp(self, x: Any, axis: Any) -> Any:
            return torch.logsumexp(x, axis)

        def argmax(self, x: Any, axis: Any = None) -> Any:
            return torch.argmax(x, axis)

        def argmin(self, x: Any, axis: Any = None) -> Any:
            return torch.argmin(x, axis)

        def softmax(self, x: Any, axis: int = -1) -> Any:
            return torch.softmax(x, axis)

        def log_softmax(self, x: Any, axis: int = -1) -> Any:
            return torch.log_softmax(x, axis)

        def cumulative_sum(self, x: Any, axis: int) -> Any:
            return torch.cumsum(x, axis)

        def cumulative_prod(self, x: Any, axis: int) -> Any:
            return torch.cumprod(x, axis)

        def cumulative_max(self, x: Any, axis: int) -> Any:
            return torch.cummax(x, axis)[0]

        def sort(self, x: Any, axis: int = -1) -> Any:
            return torch.sort(x, axis)[0]

        def argsort(self, x: Any, axis: int = -1) -> Any:
            return torch.sort(x, dim=axis, stable=True)[1]

        def top_k(self, x: Any, k: int) -> Any:
            return torch.topk(x, k)[0]

        def pad(self, x: Any, widths: Sequence[tuple[int, int]]) -> Any:
            return functional.pad(x, [n for pair in reversed(widths) for n in pair])

        def flip(self, x: Any, axis: Any) -> Any:
            return torch.flip(x, [axis] if isinstance(axis, int) else axis)

        def roll(self, x: Any, shift: int, axis: int) -> Any:
            return torch.roll(x, shift, axis)

        def split(self, x: Any, parts: int, axis: int) -> Any:
            return torch.chunk(x, parts, axis)

        def repeat(self, x: Any, count: int, axis: int) -> Any:
            return torch.repeat_interleave(x, count, axis)

        def take(self, x: Any, indices: Any, axis: int) -> Any:
            return (
                functional.embedding(indices, x) if axis == 0 and x.ndim == 2 else torch.index_select(x, axis, indices)
            )

        def take_along_axis(self, x: Any, indices: Any, axis: int) -> Any:
            return torch.gather(x, axis, indices.long())

        def one_hot(self, x: Any, count: int) -> Any:
            return functional.one_hot(x.long(), count).float()

        def add_rows(self, x: Any, indices: Any, values: Any) -> Any:
            return x.index_add(0, indices, values)

        def set_rows(self, x: Any, indices: Any, values: Any) -> Any:
            return x.index_copy(0, indices.long(), values)

        def tensordot(self, x: Any, y: Any, axes: Any) -> Any:
            return torch.tensordot(x, y, dims=axes)

        def uniform(self, shape: tuple[int, ...]) -> Any:
            return torch.rand(shape)

        def normal(self, shape: tuple[int, ...]) -> Any:
            return torch.randn(shape)

        def dropout(self, x: Any) -> Any:
            return functional.dropout(x, 0.1)

    return TorchNames()


NAMES: dict[str, Callable[[], Any]] = {"thalweg": thalweg_names, "jax": jax_names, "torch": torch_names}
