"""Which tile is fastest: measured where there is a GPU, remembered in files, and otherwise what the rules expect.

A kernel is written once for each of its candidates (configurations.py). They are compiled without a GPU, by several
processes; how long each takes is asked of whoever has one. The winner is kept under the kernel's code, and under what
the kernel does with shapes rounded up to powers of two, so that a shape that was never timed profits from its like.

    <folder>/tuned/<key>.json     {"tile": "128x64x64w4s3", "seconds": {"128x64x64w4s3": 1.1e-5, …}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.plan import nbytes
from thalweg.backends.gpu.compile import compile_texts
from thalweg.backends.gpu.configurations import Tile, shared
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.store import write_file
from thalweg.backends.gpu.tiles import power_of_two
from thalweg.runtime.gpu.artefact import KernelImage


@dataclass(frozen=True)
class Trial:
    """A launch to be timed.

    Args:
        bytes: of the buffer of each parameter; what is in them does not matter.
    """

    image: KernelImage
    grid: int
    bytes: tuple[int, ...]


Measure = Callable[[Trial], float]  # seconds of one launch, the least of some


class Tuner:
    """Chooses among the ways to write a kernel.

    Args:
        measure: how long a launch takes; None where there is no GPU: then only what was measured before is known.

    Example:
        >>> lower(module, options, Tuner(options, measure))
    """

    def __init__(self, options: GpuOptions, measure: Measure | None = None) -> None:
        self.options, self.measure = options, measure

    def best(
        self, write: Callable[[Tile | None], TritonKernel], candidates: Callable[[], Sequence[Tile]]
    ) -> TritonKernel:
        """The kernel by the fastest candidate, or by the rules where nothing is known and nothing can be measured.

        Args:
            write: the kernel by a tile; None is what the rules choose.
        """
        usual = write(None)
        tiles = {str(tile): tile for tile in candidates()}
        if len(tiles) < 2:
            return usual
        for key in (self._exact(usual), self._alike(usual)):
            known = self._recall(key)
            if known in tiles:
                return write(tiles[known])
        if self.measure is None:
            return usual
        written = {name: write(tile) for name, tile in tiles.items()}
        seconds = self._time(written, self.measure)
        if not seconds:
            return usual
        winner = min(seconds, key=lambda name: seconds[name])
        for key in (self._exact(usual), self._alike(usual)):
            self._remember(key, winner, seconds)
        return written[winner]

    def _time(self, kernels: Mapping[str, TritonKernel], measure: Measure) -> dict[str, float]:
        """Seconds of each candidate that the chip can run."""
        images = compile_texts([kernel.text for kernel in kernels.values()], self.options)
        found = {}
        for (name, kernel), image in zip(kernels.items(), images, strict=True):
            if image.shared <= shared(self.options):
                sizes = [nbytes(value) for value in (*kernel.operands, *kernel.results)]
                sizes += [kernel.workspace] if kernel.workspace else []
                found[name] = measure(Trial(image, kernel.grid, tuple(sizes)))
        return found

    # What was measured before.

    def _exact(self, kernel: TritonKernel) -> str:
        return self._key("exact", kernel.text.anonymous)

    def _alike(self, kernel: TritonKernel) -> str:
        """The key of a kernel and those that do the same with shapes of about the same size."""
        what = kernel.name.partition("_")[2]
        return self._key("alike", what, *map(_rounded, (*kernel.operands, *kernel.results)))

    def _key(self, *words: str) -> str:
        text = "\0".join([self.options.chip, str(self.options.tf32), *words])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _path(self, key: str) -> Path:
        return self.options.folder / "tuned" / f"{key}.json"

    def _recall(self, key: str) -> str | None:
        try:
            return str(json.loads(self._path(key).read_text())["tile"])
        except (OSError, ValueError, KeyError):
            return None

    def _remember(self, key: str, winner: str, seconds: Mapping[str, float]) -> None:
        write_file(self._path(key), json.dumps({"tile": winner, "seconds": dict(seconds)}).encode())


def _rounded(value: Value) -> str:
    return f"{value.element}{[power_of_two(extent) for extent in value.shape]}"
