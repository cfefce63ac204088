"""A program for a GPU as plain data: machine code, launches in order, and where every buffer is.

The GPU backend makes it (backends/gpu/program.py), the launcher runs it; neither needs the other, and running it needs
no Triton. All of it can be pickled, compared and written to a file (`to_bytes`).

How a program is run
* `arena` bytes are allocated, aligned to 256; `constants` are copied to the device once.
* The steps run in order, as on one stream: each sees what the earlier ones wrote.
* A buffer is `offset` bytes into one of four kinds of memory: `arena`, `argument` k, `result` k, `constant` k.
* A result with an alias is the new value of an argument, in the argument's own buffer: it has no buffer `result` k.
* A kernel's parameters are the addresses of its buffers, in order, then two more addresses that Triton always adds:
  scratch (programs of the grid * `KernelImage.scratch` bytes at `Launch.scratch`, or 0) and 0.
* A program without `Branch`, and without `While` whose trips are not known, can be captured as one CUDA graph
  (`DeviceProgram.straight`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

ALIGNMENT = 256  # of the arena, of every offset into it, and of every other buffer: kernels are promised at least 16
MAGIC = b"thalweg-gpu-2\n"

KINDS = ("arena", "argument", "result", "constant")


@dataclass(frozen=True)
class Buffer:
    """`bytes` bytes that start `offset` bytes into a piece of memory.

    Args:
        kind: `arena`, `argument`, `result` or `constant`.
        number: which argument, result or constant; 0 for the arena.
    """

    kind: str
    number: int
    offset: int
    bytes: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Buffer: kind is '{self.kind}', but must be one of {', '.join(KINDS)}.")


@dataclass(frozen=True)
class Tensor:
    """A type: `dtype` is the array API's name (those that NumPy lacks by ml_dtypes; bool takes one byte, 0 or 1)."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class KernelImage:
    """The machine code of one kernel.

    Args:
        name: of the function in the binary.
        chip: `sm_90`, `gfx942`: no other chip can run it. `virtual` is Triton's interpreter, for virtual GPUs.
        binary: cubin or hsaco; for `virtual` the text of the kernel's module, with its BUFFERS and TILE.
        warps: of a program; a block has `threads` = warps * warp_size threads.
        shared: bytes of dynamic shared memory; above 48 KiB the launcher must ask for them.
        scratch: bytes of global memory for each program, aligned to `scratch_alignment`.
        clusters: blocks of a program (Triton's num_ctas); the grid's x is multiplied by it.
    """

    name: str
    chip: str
    binary: bytes
    warps: int
    warp_size: int = 32
    shared: int = 0
    scratch: int = 0
    scratch_alignment: int = 1
    clusters: int = 1

    @property
    def threads(self) -> int:
        return self.warps * self.warp_size

    @cached_property
    def digest(self) -> str:
        """Tells images apart: modules are loaded once for each."""
        return hashlib.sha256(self.name.encode() + b"\0" + self.binary).hexdigest()


@dataclass(frozen=True)
class Launch:
    """Run a kernel.

    Args:
        image: its number in `DeviceProgram.images`.
        grid: programs along x, y, z; none of them is 0.
        buffers: its parameters: operands, then results.
        scratch: where the scratch of all its programs is, if the kernel has any.
        writes: how many of the last buffers it writes.
        label: the kernel's readable name (`k3_matmul_add`); kernels of equal code share one image.
        where: the user's lines that it computes, the first ones.
    """

    image: int
    grid: tuple[int, int, int]
    buffers: tuple[Buffer, ...]
    scratch: Buffer | None = None
    writes: int = 1
    label: str = ""
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Copy:
    """Copy bytes on the device; the two do not overlap."""

    source: Buffer
    target: Buffer

    def __post_init__(self) -> None:
        if self.source.bytes != self.target.bytes:
            raise ValueError(f"Copy: {self.source.bytes} bytes do not fit into {self.target.bytes}.")


@dataclass(frozen=True)
class While:
    """Run `condition`, read the byte `predicate` back, and run `body` and all again unless it is 0.

    Args:
        trips: where it is known how often the body runs: so often, and nothing is computed to be read back.
    """

    condition: tuple[Step, ...]
    predicate: Buffer
    body: tuple[Step, ...]
    trips: int | None = None


@dataclass(frozen=True)
class Branch:
    """Run one of the arms.

    `selector` is read back: with `is_index`, an int32 that numbers the arm (the last arm where there is none of that
    number); else a byte, and the first of two arms runs unless it is 0.
    """

    selector: Buffer
    arms: tuple[tuple[Step, ...], ...]
    is_index: bool = False

    def chosen(self, selector: int) -> tuple[Step, ...]:
        """The arm for what the selector holds."""
        if not self.is_index:
            return self.arms[0 if selector else 1]
        return self.arms[selector if 0 <= selector < len(self.arms) else -1]


@dataclass(frozen=True)
class Transfer:
    """Bytes that go between the GPUs which run this program together, each with a part of the batch.

    Args:
        kind: `gather`: everyone's source, in order; `exchange`: row j of the source is row i of GPU j's target, where i
            is this GPU; else an operation of NCCL's, over everyone's source: `add`, `multiply`, `maximum`, `minimum`.
        dtype: of the elements.
        where: the user's lines.
    """

    kind: str
    source: Buffer
    target: Buffer
    dtype: str
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exchange:
    """Transfers that go at the same time: no target overlaps a source."""

    transfers: tuple[Transfer, ...]


Step = Launch | Copy | While | Branch | Exchange


@dataclass(frozen=True)
class Splits:
    """How the batch is shared out.

    Args:
        arguments, results: the axis of each that is split; None where every GPU has the whole.
        same: whether it is the same program on every GPU.
    """

    arguments: tuple[int | None, ...]
    results: tuple[int | None, ...]
    same: bool


@dataclass(frozen=True)
class Named:
    """A tensor of the arena, for messages: what it is, and the steps during which it is needed."""

    text: str  # f32[4096,4096] of model.py:12: x @ w
    buffer: Buffer
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class DeviceProgram:
    """All that a launcher needs.

    Args:
        chip: that the images are for.
        arena: bytes.
        constants: the data of constant buffers, in the order of their numbers; of floats that NumPy lacks the
            bits.
        aliases: (result, argument) pairs: the result is the argument's new value, in its buffer.
        tensors: the arena's tensors, for messages.
        split: how the batch is shared out, where several GPUs run the program together.
    """

    chip: str
    images: tuple[KernelImage, ...]
    steps: tuple[Step, ...]
    arena: int
    arguments: tuple[Tensor, ...]
    results: tuple[Tensor, ...]
    aliases: tuple[tuple[int, int], ...] = ()
    constants: tuple[np.ndarray[Any, Any], ...] = ()
    tensors: tuple[Named, ...] = ()
    split: Splits | None = None

    @property
    def straight(self) -> bool:
        """Is nothing read back between the steps, so that they can be captured as one graph?"""
        return _is_straight(self.steps)

    def launches(self) -> Iterator[Launch]:
        """All launches, those of loops and branches once."""
        yield from _launches(self.steps)

    def largest(self, count: int = 5) -> list[Named]:
        """The largest tensors of the arena at the step where most bytes are needed."""
        peak = max(
            (t.first for t in self.tensors), key=lambda k: sum(t.buffer.bytes for t in self._alive(k)), default=0
        )
        return sorted(self._alive(peak), key=lambda t: -t.buffer.bytes)[:count]

    def _alive(self, step: int) -> list[Named]:
        return [tensor for tensor in self.tensors if tensor.first <= step <= tensor.last]

    def to_bytes(self) -> bytes:
        """A file: a header of JSON, then the images and constants. It holds no code but the kernels' own."""
        blobs = [*(image.binary for image in self.images), *(array.tobytes() for array in self.constants)]
        header = {
            "chip": self.chip,
            "images": [{**asdict(image), "binary": None} for image in self.images],
            "steps": [_step_to_json(step) for step in self.steps],
            "arena": self.arena,
            "arguments": [[list(t.shape), t.dtype] for t in self.arguments],
            "results": [[list(t.shape), t.dtype] for t in self.results],
            "aliases": self.aliases,
            "constants": [[list(a.shape), a.dtype.name] for a in self.constants],
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "split": asdict(self.split) if self.split is not None else None,
            "sizes": [len(blob) for blob in blobs],
            "sha256": base64.b16encode(hashlib.sha256(b"".join(blobs)).digest()).decode(),
        }
        text = json.dumps(header).encode()
        return b"".join([MAGIC, len(text).to_bytes(8, "little"), text, *blobs])

    @staticmethod
    def from_bytes(data: bytes) -> DeviceProgram:
        """The program that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are truncated, damaged, or not ours.
        """
        start = len(MAGIC) + 8
        if data[: len(MAGIC)] != MAGIC or len(data) < start:
            raise ValueError("not a GPU program of this version of Thalweg. Compile it again.")
        size = int.from_bytes(data[len(MAGIC) : start], "little")
        try:
            return _from_header(json.loads(data[start : start + size]), data[start + size :])
        except (KeyError, TypeError, IndexError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"the header of a GPU program is damaged: {error}. Compile it again.") from error


def _is_straight(steps: Sequence[Step]) -> bool:
    def is_known(step: Step) -> bool:
        return isinstance(step, While) and step.trips is not None and _is_straight(step.body)

    return all(isinstance(step, Launch | Copy) or is_known(step) for step in steps)


def _launches(steps: Sequence[Step]) -> Iterator[Launch]:
    for step in steps:
        if isinstance(step, Launch):
            yield step
        elif isinstance(step, While):
            yield from _launches(step.condition)
            yield from _launches(step.body)
        elif isinstance(step, Branch):
            for arm in step.arms:
                yield from _launches(arm)


def _step_to_json(step: Step) -> dict[str, Any]:
    """A step with its class's name, nested steps likewise."""
    data = asdict(step)
    if isinstance(step, While):
        data["condition"] = [_step_to_json(s) for s in step.condition]
        data["body"] = [_step_to_json(s) for s in step.body]
    elif isinstance(step, Branch):
        data["arms"] = [[_step_to_json(s) for s in arm] for arm in step.arms]
    return {"step": type(step).__name__, **data}


def _steps_of(data: Sequence[dict[str, Any]]) -> tuple[Step, ...]:
    return tuple(_step_of(dict(entry)) for entry in data)


def _step_of(data: dict[str, Any]) -> Step:
    kind = data.pop("step")
    if kind == "Launch":
        data["grid"], data["where"] = tuple(data["grid"]), tuple(data["where"])
        data["buffers"] = tuple(Buffer(**b) for b in data["buffers"])
        data["scratch"] = Buffer(**data["scratch"]) if data["scratch"] else None
        return Launch(**data)
    if kind == "Copy":
        return Copy(Buffer(**data["source"]), Buffer(**data["target"]))
    if kind == "While":
        predicate = Buffer(**data["predicate"])
        return While(_steps_of(data["condition"]), predicate, _steps_of(data["body"]), data["trips"])
    if kind == "Exchange":
        return Exchange(tuple(_transfer_of(entry) for entry in data["transfers"]))
    return Branch(Buffer(**data["selector"]), tuple(map(_steps_of, data["arms"])), data["is_index"])


def _transfer_of(data: dict[str, Any]) -> Transfer:
    source, target = Buffer(**data["source"]), Buffer(**data["target"])
    return Transfer(data["kind"], source, target, data["dtype"], tuple(data["where"]))


def _from_header(header: dict[str, Any], body: bytes) -> DeviceProgram:
    if hashlib.sha256(body).hexdigest() != header["sha256"].lower():
        raise ValueError("a GPU program is truncated or damaged. Compile it again.")
    blobs, start = [], 0
    for size in header["sizes"]:
        blobs.append(body[start : start + size])
        start += size
    count = len(header["images"])
    images = tuple(
        KernelImage(**{**image, "binary": blob}) for image, blob in zip(header["images"], blobs[:count], strict=True)
    )
    constants = tuple(
        np.frombuffer(blob, np.dtype(name)).reshape(shape)
        for (shape, name), blob in zip(header["constants"], blobs[count:], strict=True)
    )
    arguments, results = (
        tuple(Tensor(tuple(shape), dtype) for shape, dtype in header[key]) for key in ("arguments", "results")
    )
    tensors = tuple(Named(**{**t, "buffer": Buffer(**t["buffer"])}) for t in header["tensors"])
    aliases = tuple((result, argument) for result, argument in header["aliases"])
    split = header["split"]
    if split is not None:
        split = Splits(tuple(split["arguments"]), tuple(split["results"]), split["same"])
    return DeviceProgram(
        header["chip"],
        images,
        _steps_of(header["steps"]),
        header["arena"],
        arguments,
        results,
        aliases,
        constants,
        tensors,
        split,
    )
