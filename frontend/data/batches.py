"""Minibatches: rows of arrays that belong together, in order or shuffled, with a progress bar."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from thalweg.dialects.location import user_frame
from thalweg.frontend.tree import leaves_of, map_structure

Arrays = Any  # a nested structure (`frontend/tree.py`) of arrays with equal first extents


def batches(
    data: Arrays,
    size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    epochs: int = 1,
    steps: int | None = None,
    drop_remainder: bool = False,
    progress: bool | str = False,
) -> Batches:
    """Minibatches of `size` rows.

    Args:
        data: an array, or a tuple, list or dict of arrays whose first extents are equal, for example
            `(images, labels)`. Each batch has the same structure.
        size: rows of a batch.
        shuffle: draw the rows in an order that depends on `seed` and the number of the epoch only.
        epochs: passes over the data. Iterating again continues with the next epochs.
        steps: so many batches, in as many epochs as it takes, instead of `epochs`.
        drop_remainder: leave out a last batch of fewer than `size` rows, for which a compiled function would
            trace anew.
        progress: show a progress bar; a string is its title. `report` puts numbers beside it.

    Raises:
        ValueError: no arrays, extents that differ, or no batch at all.

    Example:
        >>> train = batches((images, labels), 128, shuffle=True, progress=True)
        >>> for x, y in train:
        ...     train.report(loss=step(x, y))
    """
    return Batches(data, size, shuffle, seed, epochs, steps, drop_remainder, progress)


class Batches:
    """What `batches` returns: iterate over it; `len` is the number of batches of one iteration."""

    def __init__(
        self,
        data: Arrays,
        size: int,
        shuffle: bool,
        seed: int,
        epochs: int,
        steps: int | None,
        drop_remainder: bool,
        progress: bool | str,
    ) -> None:
        self._data = map_structure(np.asarray, data)
        self._rows = _common_rows(self._data)
        if size < 1 or epochs < 1:
            raise ValueError(
                f"{user_frame()} batches: size and epochs must be at least 1, got size={size} and epochs={epochs}."
            )
        if self._rows < (size if drop_remainder else 1):
            raise ValueError(
                f"{user_frame()} batches: {self._rows} rows make no batch of {size}. Take a smaller size "
                "or drop_remainder=False."
            )
        self._size, self._shuffle, self._seed = size, shuffle, seed
        self._drop, self._progress = drop_remainder, progress
        self._steps = self.batches_per_epoch * epochs if steps is None else steps
        self._epoch = 0
        self._bar: _Bar | None = None

    @property
    def epoch(self) -> int:
        """The number of the epoch that the latest batch belongs to, from 0; one more at the end of an epoch."""
        return self._epoch

    @property
    def batches_per_epoch(self) -> int:
        return self._rows // self._size if self._drop else -(-self._rows // self._size)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Any]:
        if not self._progress:
            yield from self._iterate()
            return
        title = self._progress if isinstance(self._progress, str) else "training"
        with _Bar(title, len(self)) as self._bar:
            try:
                for batch in self._iterate():
                    yield batch
                    self._bar.advance()
            finally:
                self._bar = None

    def report(self, **numbers: Any) -> None:
        """Show numbers beside the progress bar: `report(loss=value)`. Without a bar it does nothing.

        Values are anything that `float` takes, one-element tensors included.
        """
        if self._bar is not None:
            self._bar.report(numbers)

    def _iterate(self) -> Iterator[Any]:
        left = self._steps
        while left > 0:
            order = np.random.default_rng([self._seed, self._epoch]).permutation(self._rows) if self._shuffle else None
            count = min(left, self.batches_per_epoch)
            for start in range(0, count * self._size, self._size):
                rows = slice(start, start + self._size) if order is None else order[start : start + self._size]
                yield map_structure(operator.itemgetter(rows), self._data)
            left -= count
            self._epoch += 1


class _Bar:
    """A progress bar on standard error, redrawn a few times a second at most."""

    def __init__(self, title: str, total: int) -> None:
        from rich import progress  # a third of a second to import: only for those who want to see it
        from rich.console import Console

        columns = ("[progress.description]{task.description}", progress.BarColumn(), progress.MofNCompleteColumn(),
                   progress.TimeElapsedColumn(), progress.TextColumn("{task.fields[numbers]}"))
        self._progress = progress.Progress(*columns, console=Console(stderr=True), refresh_per_second=8)
        self._task = self._progress.add_task(title, total=total, numbers="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def advance(self) -> None:
        self._progress.update(self._task, advance=1)

    def report(self, numbers: Mapping[str, Any]) -> None:
        text = "  ".join(f"{name} {float(np.asarray(value)):.4g}" for name, value in numbers.items())
        self._progress.update(self._task, numbers=text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def _common_rows(data: Arrays) -> int:
    shapes = [array.shape for array in leaves_of(data)]
    if not shapes or any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
        seen = ", ".join(map(str, shapes)) or "no arrays"
        raise ValueError(
            f"{user_frame()} batches: the arrays must have the same number of rows (their first extent), "
            f"got shapes {seen}."
        )
    return int(shapes[0][0])
