"""Data parallelism out of graph ops: replicas that apply their gradients at once, or together.

    opt = tw.train.SyncReplicas(tw.optim.SGD(0.1), replicas=3, backups=1)
    for k in range(4):
        with tw.device(f"/job:worker/task:{k}"):
            loss, grads = tw.value_and_grad(loss_of(k), wrt=variables)()
            steps.append(opt.apply(zip(grads, variables)))
    with tw.Session(graph) as session, opt.running(session):
        …                                  # a thread per replica: session.run(steps[k], feeds)

There is no parameter server in the runtime. Variables, and the accumulators where gradients meet, are where the blocks
of `tw.device` put them, and everything below is built of accumulators, variables and control dependencies.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from thalweg.dialects.diagnostics import CancelledError, DeadlineError, GraphError
from thalweg.dialects.location import user_frame
from thalweg.frontend.accumulators import ConditionalAccumulator, SparseConditionalAccumulator
from thalweg.frontend.building import control_dependencies, group
from thalweg.frontend.device import device
from thalweg.frontend.gradient import IndexedSlices
from thalweg.frontend.graph import Graph, Operation
from thalweg.frontend.optim.base import Optimizer
from thalweg.frontend.sharding import scope_of
from thalweg.frontend.tensor import Tensor
from thalweg.frontend.trace import current
from thalweg.frontend.train.monitored import LOST, MonitoredSession
from thalweg.frontend.variable import Variable

if TYPE_CHECKING:
    from thalweg.frontend.session import Session

Pairs = Iterable[tuple[Tensor | IndexedSlices, Variable]]

_POLL = 0.5  # seconds after which a round that nobody takes part in looks whether it should end
_NEVER_STALE = 1 << 36  # a step that no training comes to


class AsyncReplicas:
    """Each replica applies its gradient as soon as it has it, to whatever the variables are by then.

    No update is lost: reading a variable and assigning it again is one operation to all others.

    Args:
        optimizer: what is applied.

    Example:
        >>> opt = tw.train.AsyncReplicas(tw.optim.SGD(0.1))
        >>> steps = [opt.apply(pairs_of(k)) for k in range(4)]
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def apply(self, pairs: Pairs) -> Operation | None:
        """One replica's update, see `Optimizer.apply`."""
        return self.optimizer.apply(pairs)

    def variables(self) -> dict[str, Variable]:
        """For checkpoints."""
        return self.optimizer.variables()


class SyncReplicas:
    """The mean of the first `replicas` gradients of each round is applied; all replicas go on from the result.

    With `backups`, so many more replicas take part. A round does not wait for the slowest ones, and drops what they
    bring when it is over; they go on with the round that is under way. Gradients may be dense or sparse.

    Args:
        optimizer: what is applied to the means.
        replicas: gradients that make a round.
        backups: further replicas.
        name: of its variables and accumulators, and of the container that these are in.

    Raises:
        ValueError: counts that cannot be.
    """

    def __init__(self, optimizer: Optimizer, replicas: int, backups: int = 0, name: str = "sync_replicas") -> None:
        if replicas < 1 or backups < 0:
            raise ValueError(f"{user_frame()} there must be replicas, got replicas={replicas}, backups={backups}.")
        self.optimizer = optimizer
        self.replicas, self.backups, self.name = replicas, backups, name
        self.round: Variable | None = None  # how many are over
        self._variables: list[Variable] = []
        self._sums: list[ConditionalAccumulator | SparseConditionalAccumulator] = []
        self._arrivals: ConditionalAccumulator | None = None
        self._places: list[_Place] = []
        self._start: Operation | None = None

    def apply(self, pairs: Pairs) -> Operation:
        """One replica's part of a round: hand in gradients, wait until the round is over.

        Call it once per replica, under its device, with the variables in the same order.

        Returns:
            The operation that the replica's thread runs. Its gradients must be computed in the same run.

        Raises:
            GraphError: outside a graph, by too many replicas, or of other variables than the first.
        """
        graph = _graph("apply")
        pairs = list(pairs)
        if len(self._places) == self.replicas + self.backups:
            raise GraphError(f"{user_frame()} apply: there are {len(self._places)} replicas and backups already.")
        with graph.lock:
            if self.round is None:
                self._begin(pairs)
            if [id(v) for _, v in pairs] != [id(v) for v in self._variables]:
                given, wanted = (", ".join(v.name for v in vs) for vs in ([v for _, v in pairs], self._variables))
                raise GraphError(f"{user_frame()} apply: this replica has the variables {given}, the first {wanted}.")
            place = _Place(self.name, len(self._places))
            self._places.append(place)
            return self._hand_in([gradient for gradient, _ in pairs], place)

    def _begin(self, pairs: Sequence[tuple[Tensor | IndexedSlices, Variable]]) -> None:
        """What all replicas share, each accumulator where its variable is."""
        if not pairs:
            raise GraphError(f"{user_frame()} apply: there are no gradients.")
        self._variables = [variable for _, variable in pairs]
        for gradient, variable in pairs:
            kind = SparseConditionalAccumulator if isinstance(gradient, IndexedSlices) else ConditionalAccumulator
            with scope_of(variable):
                name = f"{self.name}/{variable.name}"
                self._sums.append(kind(variable.dtype, variable.shape, name=name, container=self.name))
        with scope_of(self._variables[0]):
            self.round = Variable(np.int64(0), name=f"{self.name}/round", trainable=False)
            name = f"{self.name}/arrivals"
            self._arrivals = ConditionalAccumulator("float32", (), name=name, container=self.name)

    def _hand_in(self, gradients: Sequence[Tensor | IndexedSlices], place: _Place) -> Operation:
        assert self.round is not None and self._arrivals is not None
        of = place.round.value  # from which round the variables are that the gradients come from, or an earlier one
        handed_in = [
            sums.apply_grad(gradient.indices, gradient.values, of)
            if isinstance(sums, SparseConditionalAccumulator) and isinstance(gradient, IndexedSlices)
            else sums.apply_grad(gradient, of)
            for sums, gradient in zip(self._sums, gradients, strict=True)
        ]
        with control_dependencies(handed_in):
            arrived = self._arrivals.apply_grad(0.0, of)
        with control_dependencies([arrived]):
            over = place.release.take_grad(1)  # how many rounds: more than one if this replica missed some
        done: Operation = place.round.assign_add(over)
        return done

    def update(self, timeout: float = 0) -> Operation:
        """A round's end: wait for the gradients, apply their means, release the replicas. What `running` runs.

        Args:
            timeout: seconds to wait for gradients, 0 for no limit.
        """
        if self.round is None or self._arrivals is None:
            raise GraphError(f"{user_frame()} update: no replica has applied gradients yet.")
        with _graph("update").lock:
            arrived = self._arrivals.take_grad(self.replicas, timeout=timeout)
            with control_dependencies([arrived]):  # by then they are all in, so that no take is left half done
                means = [
                    s.take_indexed_slices_grad(self.replicas)
                    if isinstance(s, SparseConditionalAccumulator)
                    else s.take_grad(self.replicas)
                    for s in self._sums
                ]
            applied = self.optimizer.apply(zip(means, self._variables, strict=True))
            with control_dependencies([applied]):
                over = self.round.assign_add(1)
            with control_dependencies([over]):
                return group(*(p.release.apply_grad(1, _NEVER_STALE) for p in self._places), name="update")

    def start(self) -> Operation:
        """Make replicas and accumulators begin with the round that the variables are from: to be run after a restore,
        before anything else."""
        if self.round is None or self._arrivals is None:
            raise GraphError(f"{user_frame()} start: no replica has applied gradients yet.")
        with _graph("start").lock:
            now = self.round.value
            done = [sums.set_global_step(now) for sums in (*self._sums, self._arrivals)]
            return group(*done, *(place.round.assign(now) for place in self._places), name="start")

    def begin(self, session: Session) -> None:
        """Run `start`: for `MonitoredSession(on_restore=opt.begin)`."""
        if self._start is None:
            with session.graph.as_default(), control_dependencies(None), device(None):
                self._start = self.start()
        session.run(self._start)

    def train(self, steps: Sequence[Operation]) -> Operation:
        """A whole round as one operation: for one thread that drives all replicas.

        Args:
            steps: what `apply` gave for each of them.
        """
        return group(*steps, self.update(), name="train")

    @contextmanager
    def running(self, session: Session | MonitoredSession) -> Iterator[None]:
        """A thread that ends the rounds for the length of a block. With a `MonitoredSession` it bears what that bears:
        give it `containers=[opt.name]`, and `on_restore=opt.begin`.

        Raises:
            ThalwegError: what ended it early.

        Example:
            >>> with opt.running(session):
            ...     for batch in data: session.run(step, feeds={x: batch})
        """
        monitored = isinstance(session, MonitoredSession)
        plain = session.session if isinstance(session, MonitoredSession) else session
        with plain.graph.as_default(), control_dependencies(None), device(None):
            update = self.update(_POLL)
        if not monitored:
            self.begin(plain)
        stop, failed = threading.Event(), list[BaseException]()

        def end_rounds() -> None:
            while not stop.is_set():
                try:
                    plain.run(update)
                except DeadlineError:
                    continue
                except BaseException as error:
                    if not (monitored and isinstance(error, (*LOST, CancelledError))):
                        failed.append(error)
                        return
                    stop.wait(_POLL)  # whoever takes a step recovers

        thread = threading.Thread(target=end_rounds, name="thalweg-sync-replicas", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if failed:
            raise failed[0]

    def variables(self) -> dict[str, Variable]:
        """For checkpoints: the optimiser's, and the number of rounds."""
        return {**self.optimizer.variables(), **({"round": self.round} if self.round is not None else {})}


class _Place:
    """What a replica has on its own device."""

    def __init__(self, owner: str, number: int) -> None:
        name = f"{owner}/replica_{number}"
        self.round = Variable(np.int64(0), name=f"{name}/round", trainable=False)  # which one its variables are from
        # Filled by the end of every round, emptied by the replica, who waits for it: the number of rounds in between.
        self.release = ConditionalAccumulator("int64", (), "sum", name=f"{name}/release", container=owner)


def _graph(what: str) -> Graph:
    graph = current()
    if not isinstance(graph, Graph):
        raise GraphError(f"{user_frame()} {what}: replicas that wait for each other belong in a tw.Graph.")
    return graph
