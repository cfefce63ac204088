"""A cluster whose tasks are all in this process, over links that a test can spoil: no Ray, no sockets."""

from weakref import WeakValueDictionary

import thalweg as tw
from thalweg.cluster import load_on_task
from thalweg.dialects.diagnostics import UnavailableError
from thalweg.runtime.cluster.master import Master
from thalweg.runtime.cluster.program import Variables
from thalweg.runtime.cluster.server import TaskServer
from thalweg.runtime.transport import InProcessLink, Switchboard, Transport


class ClusterInProcess(tw.Cluster):
    """A `tw.Cluster` whose tasks are servers on threads.

    Args:
        jobs: how many tasks each job has.
        link: makes a link of one that works, for the process called by the second argument: "master", or a task.
        patience: of everybody, in seconds.
    """

    def __init__(self, jobs, link=lambda works, name: works, patience=60.0):
        self._jobs, self._closed, self._variables, self._known = jobs, False, Variables(), WeakValueDictionary()
        self._ray = self._publisher = None
        self._keeper = self
        self._board, self._link, self._patience = Switchboard(), link, patience
        self._master = Master(self._transport("master"))
        self.servers = {task: self._server(task) for task in self.tasks}
        self._master.join({task: server.address for task, server in self.servers.items()})

    def _transport(self, name):
        link = self._link(InProcessLink(self._board), name)
        return Transport(link, patience=self._patience, repeat_after=0.05, share=False, name=name)

    def _server(self, task):
        job, index = task.removeprefix("/job:").split("/task:")
        return TaskServer(self._transport(task), job, int(index), load_on_task, ping_seconds=0.1)

    def restart(self, task):
        """A task dies without a word and comes back without what it knew."""
        old = self.servers[task]
        old._closed.set()
        for step in old.task.running:
            old.task.abort(step, "it is dead")
        old._transport.close(timeout=0)
        self._master.lose(task, UnavailableError(f"{task} has died; it is being started again."))
        self.servers[task] = self._server(task)
        self._master.join({task: self.servers[task].address})

    def is_idle(self):
        """No step runs, and no value waits."""
        health = [server.health() for server in self.servers.values()]
        return not any(h["running"] or h["pending"] for h in health)

    def close(self):
        """End all tasks."""
        if not self._closed:
            self._closed = True
            self._master.close()
            for server in self.servers.values():
                server.close()
