"""Tasks as Ray actors: Ray starts them where there is room, starts them again when they die, and says so.

Ray carries nothing of a step: an actor holds a `TaskServer`, and all else goes over the transport.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from thalweg.dialects.diagnostics import MissingExtraError, StepError, UnavailableError
from thalweg.runtime.cluster.master import Master
from thalweg.runtime.cluster.server import TaskServer
from thalweg.runtime.config import config
from thalweg.runtime.task import Load
from thalweg.runtime.transport import Transport
from thalweg.runtime.transport.zeromq import ClusterKey, ZmqLink

try:
    import ray
    from ray.exceptions import ActorDiedError, RayActorError
except ImportError as error:
    raise MissingExtraError("clusters", "cluster") from error

LOOPBACK: Final = "127.0.0.1"
_LOOK_SECONDS, _PING_SECONDS = 0.5, 5.0
_STORE_BYTES: Final = 80 << 20  # Ray's own object store, which is not used; it must have some size


@dataclass(frozen=True)
class TaskOptions:
    """What each task gets.

    Args:
        cpus, gpus: that Ray reserves for it; 0 puts no limit on how many tasks share a processor.
        threads: that its compiled programs use; None for as many as the options say.
        max_restarts: how often a task that died is started again; -1 for as often as it dies.
        patience: seconds after which a task or master that acknowledges nothing is lost.
    """

    cpus: float = 0
    gpus: float = 0
    threads: int | None = None
    max_restarts: int = 3
    patience: float = 60.0


class TaskActor:
    """The Ray actor: one process, one task."""

    def __init__(self, job: str, index: int, key: ClusterKey, local: bool, load: Load, options: TaskOptions) -> None:
        faulthandler.register(signal.SIGUSR1, all_threads=True)  # kill -USR1: the stacks go to the task's log
        if options.threads is not None:
            config.threads = options.threads
        transport = Transport(ZmqLink(key, host_of_process(local)), patience=options.patience, name=f"{job}-{index}")
        self._server = TaskServer(transport, job, index, load)

    def address(self) -> str:
        """Where the task listens in this life."""
        return self._server.address

    def watch(self) -> None:
        """Does not return while the task lives: whose call fails knows that it died."""
        self._server.wait()


class RayHere:
    """This process's connection to Ray: the one that the user made, or one of our own.

    Args:
        address: of a Ray cluster to join ("auto", "ray://…"). None takes Ray as it has been initialised here, or else
            starts it on this machine, on loopback, until `close`.
        tasks: how many there will be.

    Raises:
        UnavailableError: there is no Ray at the address.
    """

    def __init__(self, address: str | None, tasks: int) -> None:
        self._ours = not ray.is_initialized()
        self.is_local = self._ours and address is None
        if self._ours:
            _start_ray(address, tasks)

    @property
    def host(self) -> str:
        """The address by which this process is reached by tasks."""
        return host_of_process(self.is_local)

    def logs(self) -> str:
        """The folder in which Ray keeps what tasks print, in files whose names end in the process's number."""
        return os.path.join(ray._private.worker._global_node.get_session_dir_path(), "logs")

    def close(self) -> None:
        """Leave Ray; stops it if it was started here."""
        if self._ours:
            ray.shutdown()


def host_of_process(local: bool) -> str:
    """Where this process listens: on loopback only if the cluster is on one machine."""
    return LOOPBACK if local else str(ray.util.get_node_ip_address())


class RayTasks:
    """Starts the tasks of a cluster and looks after them until `close`.

    Args:
        jobs: how many tasks each job has.
        master: is told of the tasks, and when one dies or comes back.
        key: the cluster's.
        load: makes plans and programs of what is registered; a function of a module that the tasks can import.
        timeout: seconds within which all tasks must be there.

    Raises:
        UnavailableError: the tasks did not start in time; says what was waited for.
    """

    def __init__(
        self,
        jobs: Mapping[str, int],
        master: Master,
        key: ClusterKey,
        load: Load,
        options: TaskOptions,
        here: RayHere,
        timeout: float = 120.0,
    ) -> None:
        self._master = master
        self._closing = threading.Event()
        self._group: Any = None
        self._actors: dict[str, Any] = {}
        self._joining: set[str] = set()  # tasks that are being told where the others are
        try:
            self._start(jobs, key, here.is_local, load, options, timeout)
        except BaseException:
            self.close()
            raise
        self._supervisor = threading.Thread(target=self._supervise, name="thalweg-supervisor", daemon=True)
        self._supervisor.start()

    def close(self) -> None:
        """Stop the tasks. May be called twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        for actor in self._actors.values():
            with suppress(Exception):  # it may be dead already
                ray.kill(actor, no_restart=True)
        if self._group is not None:
            with suppress(Exception):
                ray.util.remove_placement_group(self._group)
        if hasattr(self, "_supervisor"):
            self._supervisor.join(5.0)

    def _start(
        self, jobs: Mapping[str, int], key: ClusterKey, local: bool, load: Load, options: TaskOptions, timeout: float
    ) -> None:
        end = time.monotonic() + timeout
        names = [(job, index) for job, count in jobs.items() for index in range(count)]
        strategy: Any = "SPREAD"
        if options.cpus or options.gpus:
            strategy = self._reserve(len(names), options, timeout)
        made = ray.remote(TaskActor).options(
            num_cpus=options.cpus,
            num_gpus=options.gpus,
            max_restarts=options.max_restarts,
            max_concurrency=4,  # `watch` holds one thread
            scheduling_strategy=strategy,
        )
        for job, index in names:
            self._actors[f"/job:{job}/task:{index}"] = made.remote(job, index, key, local, load, options)
        calls = {name: actor.address.remote() for name, actor in self._actors.items()}
        _, late = ray.wait(list(calls.values()), num_returns=len(calls), timeout=max(0.0, end - time.monotonic()))
        if late:
            names_late = [name for name, call in calls.items() if call in late]
            raise UnavailableError(
                f"{', '.join(names_late)} did not start within {timeout:g} s. `ray status` shows what Ray waits for."
            )
        try:
            self._master.join({name: ray.get(call) for name, call in calls.items()})
        except RayActorError as error:
            raise UnavailableError(f"a task ended while it started: {error}") from error

    def _reserve(self, count: int, options: TaskOptions, timeout: float) -> Any:
        """A placement group with a bundle for each task: all of them fit, or none is started."""
        bundle = {"CPU": options.cpus, "GPU": options.gpus}
        self._group = ray.util.placement_group(
            [{kind: amount for kind, amount in bundle.items() if amount}] * count, strategy="SPREAD"
        )
        if not self._group.wait(timeout):
            has = ray.cluster_resources()
            raise UnavailableError(
                f"the Ray cluster has no room for {count} tasks of {options.cpus:g} CPUs and {options.gpus:g} GPUs: it "
                f"has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs."
            )
        return ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(self._group)

    # Looking after them; on the supervisor's thread.

    def _supervise(self) -> None:
        pending: dict[Any, tuple[str, bool]] = {}  # calls of `watch`, and of `address` for tasks that come back
        for name, actor in self._actors.items():
            pending[actor.watch.remote()] = name, False
        pinged = time.monotonic()
        while not self._closing.is_set():
            with suppress(StepError):
                ready, _ = ray.wait(list(pending), num_returns=1, timeout=_LOOK_SECONDS)
                for call in ready:
                    name, returning = pending.pop(call)
                    again = self._look(name, call, returning)
                    if again is not None:
                        pending[again[0]] = name, again[1]
                if time.monotonic() - pinged > _PING_SECONDS:
                    pinged = time.monotonic()
                    self._master.ping()
                    self._fence([name for name, returning in pending.values() if not returning])
            if not pending:
                self._closing.wait(_LOOK_SECONDS)

    def _fence(self, watched: Sequence[str]) -> None:
        """End tasks that live, as Ray says, but that the master has lost: they hang, or cannot be reached. Ray starts
        them again, and then they are as good as any that died."""
        for name in watched:
            if name not in self._joining and name not in self._master.tasks:
                ray.kill(self._actors[name], no_restart=False)

    def _look(self, name: str, call: Any, returning: bool) -> tuple[Any, bool] | None:
        """What a call of a task that has ended says about it, and the next call to wait for."""
        actor = self._actors[name]
        try:
            address = ray.get(call)
        except ActorDiedError:
            if not self._closing.is_set():
                self._master.lose(name, UnavailableError(f"{name} has died, and is not started again."))
            return None
        except RayActorError:
            if self._closing.wait(0.0 if not returning else 0.1):
                return None
            if not returning:
                self._master.lose(name, UnavailableError(f"{name} has died; it is being started again."))
            return actor.address.remote(), True
        if not returning:
            return None  # closed in peace
        self._joining.add(name)
        threading.Thread(target=self._join, args=(name, address), name=f"thalweg-join-{name}", daemon=True).start()
        return actor.watch.remote(), False

    def _join(self, name: str, address: str) -> None:
        """Tell everybody that a task is back. If another one dies meanwhile, it is told again without that one."""
        try:
            for _ in range(100):
                if self._closing.is_set():
                    return
                try:
                    self._master.join({name: address})
                    return
                except StepError:
                    self._closing.wait(0.2)
        finally:
            self._joining.discard(name)


def _start_ray(address: str | None, tasks: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        except ConnectionError as error:
            raise UnavailableError(f"there is no Ray cluster at '{address}': {error}") from error
        return
    with _on_loopback():
        ray.init(
            address="local",
            num_cpus=max(tasks, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _node_ip_address=LOOPBACK,
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray that is started within listens on loopback only. It has one switch for that, which its processes inherit;
    by default it replaces a loopback address by the machine's own."""
    constants = ray._private.ray_constants
    name, before = constants.ENABLE_RAY_CLUSTERS_ENV_VAR, constants.ENABLE_RAY_CLUSTER
    given = os.environ.get(name)
    os.environ[name], constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        del os.environ[name]
        if given is not None:
            os.environ[name] = given
