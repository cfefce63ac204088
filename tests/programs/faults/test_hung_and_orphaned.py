"""Tasks that neither answer nor die, tasks whose master is gone, and clusters that are closed: nothing stays behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from deadlines import Background, within

import thalweg as tw
from thalweg.dialects.diagnostics import UnavailableError

pytest.importorskip("ray")
pytest.importorskip("zmq")
pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]

PS, WORKER = "/job:ps/task:0", "/job:worker/task:0"


def test_a_task_that_hangs_is_ended_and_comes_back():
    code = textwrap.dedent(f"""
        import os, signal, time
        import numpy as np
        import thalweg as tw

        with tw.Cluster(ps=1, workers=1, max_restarts=-1, patience=3) as cluster:
            graph = tw.Graph()
            with graph.as_default():
                with tw.device("{PS}"):
                    w = tw.Variable(tw.full((4,), 3.0), name="w")
                with tw.device("{WORKER}"):
                    y = w * 2.0
            with tw.Session(graph, target=cluster) as session:
                session.run(y)
                for task in ("{WORKER}", "{PS}"):
                    pid = cluster.health()[task]["pid"]
                    os.kill(pid, signal.SIGSTOP)
                    began = time.monotonic()
                    try:
                        session.run(y)
                    except tw.UnavailableError as error:
                        print(f"{{time.monotonic() - began:.1f}} s: {{error}}", flush=True)
                    cluster.wait(60)
                    try:
                        session.run(y)
                    except tw.UninitialisedError as error:
                        print(error, flush=True)
                        cluster.initialise(w)
                    assert np.asarray(session.run(y)).tolist() == [6.0] * 4
                    assert cluster.health()[task]["pid"] != pid
                    print("back", task, flush=True)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("back") == 2 and f"{WORKER} does not answer" in done.stdout
    assert f"{PS} does not answer" in done.stdout and "'w' has no value yet" in done.stdout


def children(pid):
    """The processes that one started, and they."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {pid}
    while more := {p for p, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids):
    """Those of the processes that run."""
    found = []
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_tasks_end_with_their_master(signal_):
    """Killed in the middle of a step that waits for ever, the master takes all its processes with it."""
    code = textwrap.dedent(f"""
        import thalweg as tw

        cluster = tw.Cluster(ps=1, workers=1)
        graph = tw.Graph()
        with graph.as_default():
            with tw.device("{WORKER}"):
                queue = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[()], name="q")
                taken = queue.dequeue()
            with tw.device("{PS}"):
                y = taken + 1.0
        print("ready", flush=True)
        tw.Session(graph, target=cluster).run(y)
    """)
    segments = set(os.listdir("/dev/shm"))
    command = [sys.executable, "-c", code]
    master = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert master.stdout.readline() == "ready\n"
        time.sleep(3)
        started = children(master.pid)
        assert len(alive(started)) > 3
        master.send_signal(signal_)
        master.wait(20)
        end = time.monotonic() + 90  # two of Ray's own take a minute to notice
        while (left := alive(started)) and time.monotonic() < end:
            time.sleep(0.1)
        names = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:80] for pid in left]
        assert not left, names
        mine = {name for name in set(os.listdir("/dev/shm")) - segments if "thalweg" in name}
        assert not mine
    finally:
        master.kill()


def test_a_closed_cluster_leaves_nothing():
    """Neither threads nor files nor processes, after three clusters."""
    before = set(children(os.getpid()))

    def use():
        graph = tw.Graph()
        with tw.Cluster(ps=1, workers=1) as cluster:
            with graph.as_default():
                with tw.device(PS):
                    w = tw.Variable(tw.zeros((100_000,)), name="w")
                with tw.device(WORKER):
                    y = w * 2.0
                    queue = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[()], name="q")
                    stuck = queue.dequeue()
            with tw.Session(graph, target=cluster) as session:
                session.run(y)
                waiting = Background(lambda: session.run(stuck))
                while not cluster.health()[WORKER]["running"]:
                    time.sleep(0.02)
                cluster.close()
                error = waiting.failed(5)
                assert isinstance(error, UnavailableError) and "closed" in str(error)
                with within(5), pytest.raises(UnavailableError, match="closed"):
                    session.run(y)

    use()
    time.sleep(1)
    files, threads = len(os.listdir("/proc/self/fd")), {t.name for t in threading.enumerate()}
    use()
    use()
    time.sleep(1)
    assert len(os.listdir("/proc/self/fd")) <= files + 8
    left = [t.name for t in threading.enumerate() if t.name not in threads and t.name.startswith("thalweg")]
    assert not left
    end = time.monotonic() + 20
    while (processes := alive(children(os.getpid()) - before)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not processes
