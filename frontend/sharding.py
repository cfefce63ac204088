"""Variables in pieces on several devices: tables that are too large for one, or too busy.

    table = tw.ShardedVariable((1_000_000, 32), shards=2, devices="/job:ps", init=tw.initializers.normal(0.1))
    rows = table.lookup(ids)               # the ids go to the shards, the rows come back
    grads = tw.grad(loss, wrt=table.shards)()           # sparse: indices and rows, a pair per shard

A lookup partitions its ids by shard, looks them up where the shard is, and merges the rows; its gradient goes the same
way back. What travels are ids and rows; no op has the size of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np

from thalweg.dialects.location import user_frame
from thalweg.dialects.types import DType, int32
from thalweg.frontend import array as xp
from thalweg.frontend.device import Device, device
from thalweg.frontend.initializers import Initializer, normal
from thalweg.frontend.ragged import dynamic_partition, lookup, merge_partitions
from thalweg.frontend.tensor import ArrayLike, Tensor, as_tensor
from thalweg.frontend.trace import suspended
from thalweg.frontend.variable import Variable
from thalweg.runtime.checkpoints import Part

Devices = str | Device | Sequence[str | Device] | None
Strategy = Literal["mod", "div"]


@contextmanager
def scope_of(variable: Variable) -> Iterator[None]:
    """Make what a variable needs beside itself for the device that it was made for."""
    if not variable.scope:
        yield
        return
    with device(None), device(variable.scope):
        yield


@contextmanager
def beside(variable: Variable) -> Iterator[None]:
    """Ask for the ops of a block to run where a variable is; nothing is asked where it was made for no device."""
    if not variable.scope:
        yield
        return
    with device(f"colocate:{variable.name}"):
        yield


def on_shard(devices: Devices, shard: int) -> str | Device | None:
    """The device of a shard: tasks 0, 1, … of a job, or the devices of a list in turn."""
    if devices is None:
        return None
    if isinstance(devices, str | Device):
        return f"{devices}/task:{shard}" if "/task:" not in str(devices) and "/job:" in str(devices) else devices
    return devices[shard % len(devices)]


class ShardedVariable:
    """A variable whose rows are spread over several variables.

    Args:
        shape: of the whole.
        shards: how many pieces.
        devices: of the pieces: a job ("/job:ps", whose tasks take one each in order), or a list that is gone through in
            turn. By default what the blocks around ask for.
        init: the initial value of each piece, from its shape and the generator.
        rng: by default the same numbers in every run.
        strategy: "mod" deals rows out in turn, which spreads frequent ones (small ids) evenly; "div" keeps neighbours
            together.
        name: the shards are called `name/shard_0`…

    Raises:
        ValueError: fewer rows than shards.

    Example:
        >>> table = tw.ShardedVariable((10, 4), shards=3)
        >>> table.lookup([7, 0, 7]).shape
        (3, 4)
    """

    def __init__(
        self,
        shape: Sequence[int],
        shards: int,
        *,
        devices: Devices = None,
        init: Initializer | None = None,
        rng: np.random.Generator | None = None,
        strategy: Strategy = "mod",
        name: str = "sharded",
        trainable: bool = True,
        dtype: Any = None,
    ) -> None:
        self.shape = tuple(shape)
        if not self.shape or not 1 <= shards <= self.shape[0]:
            raise ValueError(f"{user_frame()} {self.shape} cannot be spread over {shards} shards by its rows.")
        if strategy not in ("mod", "div"):
            raise ValueError(f"{user_frame()} the strategy must be 'mod' or 'div', got {strategy!r}.")
        self.strategy = strategy
        make, rng = init or normal(0.05), rng or np.random.default_rng(0)
        self.shards: list[Variable] = []
        for number in range(shards):
            rows = self._rows(number, shards)
            with suspended():
                value = make((len(rows), *self.shape[1:]), rng)
            with nullcontext() if devices is None else device(on_shard(devices, number)):
                shard = Variable(value, name=f"{name}/shard_{number}", trainable=trainable, dtype=dtype)
            self.shards.append(shard)
            shard.part = Part(self.shards[0].name, self.shape, rows)

    def _rows(self, number: int, shards: int) -> range:
        count = self.shape[0]
        if self.strategy == "mod":
            return range(number, count, shards)
        each, more = divmod(count, shards)  # the first shards have one row more
        return range(number * each + min(number, more), (number + 1) * each + min(number + 1, more))

    @property
    def dtype(self) -> DType:
        return self.shards[0].dtype

    def lookup(self, ids: ArrayLike) -> Tensor:
        """Rows by their ids: int[…] -> [… of the ids, … of a row]. An id outside takes the nearest row."""
        places = as_tensor(ids)
        if not places.dtype.is_integer:
            raise TypeError(f"{user_frame()} lookup: the ids must be integers, got {places.type}.")
        owners, local = self.locate(places)
        if len(self.shards) == 1:
            with beside(self.shards[0]):
                return lookup(self.shards[0], local)
        flat = xp.reshape(owners, (-1,))
        pieces = dynamic_partition(xp.reshape(local, (-1,)), flat, len(self.shards))
        rows = []
        for shard, piece in zip(self.shards, pieces, strict=True):
            with beside(shard):
                rows.append(lookup(shard, piece))
        merged = merge_partitions(flat, rows)
        return merged if places.ndim == 1 else xp.reshape(merged, (*places.shape, *self.shape[1:]))

    def locate(self, ids: ArrayLike) -> tuple[Tensor, Tensor]:
        """Which shard each id is on, and which of its rows it is: int32 both."""
        inside = xp.clip(xp.astype(as_tensor(ids), int32), 0, self.shape[0] - 1)
        if self.strategy == "mod":
            return inside % len(self.shards), inside // len(self.shards)
        each, more = divmod(self.shape[0], len(self.shards))
        split = more * (each + 1)  # where the shards with one row more end
        owners = xp.where(inside < split, inside // (each + 1), more + (inside - split) // each)
        return owners, inside - owners * each - xp.minimum(owners, more)

    def variables(self) -> dict[str, Variable]:
        """For checkpoints: the shards. The checkpoint has them as one tensor, which any number of shards can read."""
        return {f"shard_{number}": shard for number, shard in enumerate(self.shards)}

    def numpy(self) -> np.ndarray[Any, Any]:
        """The whole as one array: for tests, and tables that are small."""
        whole = np.empty(self.shape, self.dtype.numpy)
        for shard in self.shards:
            whole[_slice(shard)] = shard.numpy()
        return whole

    def assign(self, value: Any) -> None:
        """Spread an array over the shards. Eagerly; for tests and for models that come from elsewhere."""
        whole = np.asarray(value)
        if whole.shape != self.shape:
            raise ValueError(f"{user_frame()} assign: the shape must be {self.shape}, got {whole.shape}.")
        for shard in self.shards:
            shard.assign(whole[_slice(shard)])

    def __repr__(self) -> str:
        return f"ShardedVariable({self.shape}, shards={len(self.shards)}, strategy='{self.strategy}')"


def _slice(shard: Variable) -> slice:
    """The rows of the whole that a shard has."""
    assert shard.part is not None
    return slice(shard.part.rows.start, shard.part.rows.stop, shard.part.rows.step)
