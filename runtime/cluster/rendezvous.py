"""The rendezvous of a task in a cluster: values for its own devices stay, others are sent to their task at once."""

from __future__ import annotations

from collections.abc import Mapping

from thalweg.dialects.devices import parse
from thalweg.dialects.diagnostics import UnavailableError
from thalweg.runtime.cluster.protocol import TENSOR
from thalweg.runtime.kernels import Done
from thalweg.runtime.plan import Value
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.transport import Message, Transport


class ClusterRendezvous:
    """A `Rendezvous` across processes. The sender pushes: a value is on its way before anybody asks for it, so that an
    edge costs one message.

    Args:
        task: this task's name, `/job:ps/task:0`.
        transport: carries the values of other tasks; whoever started it gives what comes to `arrived`.
    """

    def __init__(self, task: str, transport: Transport) -> None:
        self._task = task
        self._transport = transport
        self._here = LocalRendezvous()
        self._addresses: dict[str, str] = {}
        self._tasks: dict[str, str] = {"": task}  # by device
        self._lives: dict[int, Mapping[str, str]] = {}  # the addresses when a step began, by step

    def connect(self, addresses: Mapping[str, str]) -> None:
        """Where the cluster's tasks are from now on, by name. What has a new address has a new life: the old one is
        not spoken to any more."""
        before, self._addresses = self._addresses, dict(addresses)
        for address in set(before.values()) - set(self._addresses.values()):
            self._transport.forget(address)

    def begin(self, step_id: int) -> None:
        """A step begins here: it speaks to tasks in the lives that they have now. One that is started anew knows
        nothing of it, and would keep its values for ever."""
        self._lives[step_id] = self._addresses

    def name_of(self, address: str) -> str:
        """The task that has an address, or the address."""
        return next((name for name, known in self._addresses.items() if known == address), address)

    def send(self, step_id: int, key: str, value: Value, target: str = "") -> None:
        task = self._tasks.get(target)
        if task is None:
            task = self._tasks[target] = parse(target).task_name or self._task
        if task == self._task:
            self._here.send(step_id, key, value)
            return
        address = self._lives.get(step_id, self._addresses).get(task)
        if address is None:
            raise UnavailableError(f"'{key}' cannot be sent: {task} is no task of the cluster, or has ended.")
        self._transport.send(address, Message(TENSOR, step_id, key, (value,)))

    def arrived(self, message: Message) -> None:
        """Take in a value that another task sent."""
        self._here.send(message.step, message.key, message.values[0])

    def receive(self, step_id: int, key: str, done: Done) -> None:
        self._here.receive(step_id, key, done)

    def abort(self, step_id: int, error: BaseException) -> None:
        self._here.abort(step_id, error)

    def finish(self, step_id: int) -> None:
        self._lives.pop(step_id, None)
        self._here.finish(step_id)

    def pending(self) -> int:
        """How many values and receivers wait on this task, over all steps."""
        return self._here.pending()
