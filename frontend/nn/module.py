"""Layers as objects: a `Module` holds variables and other modules as plain attributes.

    class Block(tw.nn.Module):
        def __init__(self, features, rng):
            self.norm = tw.nn.LayerNorm(features)
            self.dense = tw.nn.Dense(features, features, rng)

        def __call__(self, x, *, training=False):
            return x + tw.nn.gelu(self.dense(self.norm(x)))

A layer is called with arrays whose last dimension is the features. `training` is an ordinary argument and no hidden
mode: layers that behave differently in training (dropout, batch normalisation) look at it, the others ignore it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from thalweg.frontend.random import Generator
from thalweg.frontend.sharding import ShardedVariable
from thalweg.frontend.tensor import Tensor
from thalweg.frontend.variable import Variable


class Module:
    """Base of layers and models: finds the variables that its attributes hold."""

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, x, *, training=False)")

    def variables(self) -> dict[str, Variable]:
        """All variables by their path, in the order of the attributes: `{"dense.weight": …}`.

        A variable that is reachable twice (tied weights) is listed once, under its first path.
        """
        found: dict[str, Variable] = {}
        seen: set[int] = set()
        for path, value in _members(self, "", set()):
            if isinstance(value, Variable) and id(value) not in seen:
                seen.add(id(value))
                found[path] = value
        return found

    @property
    def trainable(self) -> list[Variable]:
        """The variables that an optimiser should change: `tw.value_and_grad(loss, wrt=model.trainable)`."""
        return [v for v in self.variables().values() if v.trainable]

    def describe(self) -> str:
        """What stands in the parentheses of the representation."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"


class Sequential(Module):
    """Layers and functions applied one after the other.

    Example:
        >>> model = Sequential(Dense(784, 256, rng), relu, Dropout(0.1, seed=0), Dense(256, 10, rng))
        >>> logits = model(images, training=True)
    """

    def __init__(self, *layers: Callable[..., Any]) -> None:
        self.layers = layers

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        for layer in self.layers:
            x = layer(x, training=training) if isinstance(layer, Module) else layer(x)
        return x  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Callable[..., Any]:
        return self.layers[index]

    def describe(self) -> str:
        return ", ".join(repr(f) if isinstance(f, Module) else getattr(f, "__name__", repr(f)) for f in self.layers)


def _members(value: Any, path: str, inside: set[int]) -> Iterator[tuple[str, Any]]:
    """What is held by a module, generator, list, tuple or dict, depth first, with dotted paths; cycles are cut."""
    if isinstance(value, Module):
        items = vars(value).items()
    elif isinstance(value, dict):
        items = value.items()
    elif isinstance(value, Generator):
        items = {"key": value.base, "counter": value.counter}.items()
    elif isinstance(value, ShardedVariable):
        items = value.variables().items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)  # type: ignore[assignment]
    else:
        yield path, value
        return
    if id(value) in inside:
        return
    for key, item in items:
        yield from _members(item, f"{path}.{key}" if path else str(key), inside | {id(value)})
