"""One program on several GPUs of this process, each with its part of the batch, in step with each other.

    together = Replicas(gpus, programs, state=1)
    results = together([[x0, w0], [x1, w1]])     # a list of results for each GPU

Between exchanges every GPU goes through its own segments, graphs from the second run on; nothing waits for the host. An
exchange begins when all GPUs have come to it, and ends when all have read what they wanted: that is told by events.
Loops and branches go the same way everywhere, so the first GPU's predicate is read for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from thalweg.dialects.diagnostics import DeviceError
from thalweg.runtime.gpu.array import DeviceArray
from thalweg.runtime.gpu.artefact import Buffer, DeviceProgram, Exchange, Transfer
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.driver import DriverError
from thalweg.runtime.gpu.nccl import Collective
from thalweg.runtime.gpu.program import ChoiceNode, LoadedProgram, LoopNode, Node, Segment

MOVED = ("gather", "exchange")  # transfers that are copies; the others are sums of NCCL


class Replicas:
    """Safe to call from several threads.

    Args:
        gpus: of one driver, each once.
        programs: one for each; of the same steps.
        state: how many of the last arguments are state (see `LoadedProgram`).
        sums: NCCL's; None where the programs ask for none.

    Raises:
        DeviceError: compiled for another chip.
        DeviceMemoryError: a GPU has no memory for its arena.
    """

    def __init__(
        self, gpus: Sequence[Gpu], programs: Sequence[DeviceProgram], state: int = 0, name: str = "a program",
        graphs: bool = True, sums: Collective | None = None,
    ) -> None:  # fmt: skip
        pairs = zip(gpus, programs, strict=True)
        self.parts = [LoadedProgram(gpu, program, state, name, graphs) for gpu, program in pairs]
        self._sums = sums

    def __call__(
        self, arguments: Sequence[Sequence[DeviceArray]], check_launches: bool = False
    ) -> list[list[DeviceArray]]:
        """Start a run.

        Args:
            arguments: for each GPU, on it.
            check_launches: wait for each kernel, to tell which one fails.

        Returns:
            For each GPU its results. If it raises, what is in the state's memory is of no use.

        Raises:
            DeviceError: a kernel could not be launched; names it, the GPU and the user's lines.
        """
        with ExitStack() as held:
            for part in sorted(self.parts, key=lambda p: p.gpu.index):  # always in this order
                held.enter_context(part.gpu.lock)
            for part, given in zip(self.parts, arguments, strict=True):
                part.gpu.enter()
                part.begin(given, check_launches)
            self._run([part.nodes for part in self.parts])
            found = []
            for part, given in zip(self.parts, arguments, strict=True):
                part.gpu.enter()
                found.append(part.finish(given))
            return found

    def _run(self, several: Sequence[Sequence[Node]]) -> None:
        """Each GPU's nodes, one from each at a time."""
        for nodes in zip(*several, strict=True):
            first = nodes[0]
            if isinstance(first, Segment):
                for part, node in zip(self.parts, nodes, strict=True):
                    assert isinstance(node, Segment)
                    part.gpu.enter()
                    part.play(node)
            elif isinstance(first, LoopNode):
                loops = [node for node in nodes if isinstance(node, LoopNode)]
                for _ in range(first.trips or 0):
                    self._run([loop.body for loop in loops])
                if first.trips is not None:
                    continue
                self._run([loop.condition for loop in loops])
                while self._first().goes_on(first):
                    self._run([loop.body for loop in loops])
                    self._run([loop.condition for loop in loops])
            elif isinstance(first, ChoiceNode):
                arm = self._first().chosen(first)
                self._run([node.arms[arm] for node in nodes if isinstance(node, ChoiceNode)])
            else:
                self._exchange([node.transfers for node in nodes if isinstance(node, Exchange)])

    def _first(self) -> LoadedProgram:
        self.parts[0].gpu.enter()
        return self.parts[0]

    # Between GPUs.

    def _exchange(self, several: Sequence[Sequence[Transfer]]) -> None:
        """Args:
        several: each GPU's transfers, in the same order.
        """
        together = list(zip(*several, strict=True))
        moved = [transfers for transfers in together if transfers[0].kind in MOVED]
        summed = [transfers for transfers in together if transfers[0].kind not in MOVED]
        if moved:
            self._wait_for_all()  # what is read is there, and nobody needs what is written over
            for number, part in enumerate(self.parts):
                part.gpu.enter()
                for transfers in moved:
                    self._collect(number, transfers)
            self._wait_for_all()  # nobody writes over what another still reads
        if summed:
            assert self._sums is not None, "the program was compiled for NCCL"
            self._sums.reduce([[self._sum(p, t) for p, t in zip(self.parts, ts, strict=True)] for ts in summed])

    def _sum(self, part: LoadedProgram, transfer: Transfer) -> tuple[int, int, int, str, str]:
        source, target = part.address(transfer.source), part.address(transfer.target)
        return source, target, transfer.target.bytes, transfer.dtype, transfer.kind

    def _wait_for_all(self) -> None:
        """Have every GPU wait until the others have come here."""
        marks = []
        for part in self.parts:
            part.gpu.enter()
            marks.append(part.gpu.mark(part.gpu.compute))
        for part in self.parts:
            part.gpu.enter()
            for mark in marks:
                part.gpu.order(part.gpu.compute, mark)

    def _collect(self, number: int, transfers: Sequence[Transfer]) -> None:
        """Have a GPU fetch what is for it from everyone."""
        own, part = transfers[number], self.parts[number]
        size = own.target.bytes // len(self.parts)
        for of, (other, transfer) in enumerate(zip(self.parts, transfers, strict=True)):
            skipped = number * size if own.kind == "exchange" else 0
            source = Buffer(transfer.source.kind, transfer.source.number, transfer.source.offset + skipped, size)
            try:
                part.gpu.reaches(other.gpu)
                part.gpu.copy_from(other.gpu, part.address(own.target) + of * size, other.address(source), size)
            except DriverError as error:
                lines = f" of {', '.join(own.where)}" if own.where else ""
                what = f"{size} bytes from {other.gpu.name} to {part.gpu.name}{lines}, in {part.name}"
                raise DeviceError(f"a copy of {what}, failed: {error}") from error
