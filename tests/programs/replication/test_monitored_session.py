"""Sessions that save and recover, in one process: what is restored, when it is saved, and when it gives up."""

import threading

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend.program import compiler


class Counter:
    """A variable that counts steps."""

    def __init__(self):
        self.graph = tw.Graph()
        with self.graph.as_default():
            self.count = tw.Variable(np.zeros((), np.float32), name="count")
            self.step = self.count.assign_add(1.0)
        self.tree = {"count": self.count}


def steps_of(manager):
    return [c.step for c in manager.checkpoints]


def test_it_saves_on_the_way_and_at_the_end_and_starts_from_there(tmp_path):
    for first, last in ((0, 7), (7, 9)):
        counter = Counter()
        with tw.train.MonitoredSession(
            counter.graph, tmp_path, counter.tree, save_steps=3, last_step=last, keep=None
        ) as session:
            assert session.step == first == int(counter.count.numpy())
            while not session.should_stop():
                session.run(counter.step)
        assert session.step == last == int(counter.count.numpy())
    assert steps_of(session.manager) == [3, 6, 7, 9]


def test_after_an_error_the_checkpoints_stay_as_they_are(tmp_path):
    counter = Counter()
    with pytest.raises(KeyError), tw.train.MonitoredSession(
        counter.graph, tmp_path, counter.tree, save_steps=2
    ) as session:
        for _ in range(3):
            session.run(counter.step)
        raise KeyError
    assert steps_of(session.manager) == [2]


def test_any_number_of_threads_take_steps(tmp_path):
    counter = Counter()
    with tw.train.MonitoredSession(counter.graph, tmp_path, counter.tree, save_steps=10, keep=None) as session:

        def run():
            while session.step < 95 and not session.should_stop():
                session.run(counter.step)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert session.step == int(counter.count.numpy()) >= 95
        session.request_stop()
        assert session.should_stop()


def test_saves_by_the_clock(tmp_path):
    counter = Counter()
    with tw.train.MonitoredSession(
        counter.graph, tmp_path, counter.tree, save_steps=None, save_seconds=0.0, keep=None
    ) as session:
        for _ in range(3):
            session.run(counter.step)
    assert steps_of(session.manager) == [1, 2, 3]


class Flaky:
    """A target that loses its tasks: a stand-in for a cluster."""

    devices = "/job:localhost/task:0/device:CPU:0"

    def __init__(self):
        self.waited = self.initialised = 0

    def bind(self, step):
        return compiler().compile(step.program)  # in this process after all

    def wait(self, timeout):
        self.waited += 1

    def initialise(self, *variables):
        self.initialised += 1

    def reset(self, containers):
        pass


def flaky(tmp_path, monkeypatch, failures, **options):
    """A session whose steps fail so many times as if a task were lost."""
    counter = Counter()
    session = tw.train.MonitoredSession(counter.graph, tmp_path, counter.tree, save_steps=2, keep=None, **options)
    target, original, left = Flaky(), session.session.run, iter(failures)

    def run(fetches, feeds=None, timeout=None):
        if fetches is counter.step and next(left, None) is not None:
            raise tw.UnavailableError("task /job:ps/task:0 is gone.")
        return original(fetches, feeds, timeout)

    monkeypatch.setattr(session.session, "run", run)
    monkeypatch.setattr(session.session, "target", target)
    return counter, session, target


def failing_once(monkeypatch, session, error):
    """Let the session's next run fail."""
    original, left = session.session.run, iter([error])

    def run(fetches, feeds=None, timeout=None):
        lost = next(left, None)
        if lost is not None:
            raise lost
        return original(fetches, feeds, timeout)

    monkeypatch.setattr(session.session, "run", run)


def test_a_lost_step_is_run_again_from_the_last_checkpoint(tmp_path, monkeypatch):
    restored = []
    counter, session, target = flaky(tmp_path, monkeypatch, [], on_restore=restored.append)
    for _ in range(3):
        session.run(counter.step)
    session.manager.wait()
    counter.count.assign(99.0)  # what a task that comes back may hold
    failing_once(monkeypatch, session, tw.UnavailableError("task /job:ps/task:0 is gone."))
    asked = []
    session.run(counter.step, lambda step: asked.append(step) or {})
    assert (session.recovered, target.waited, session.step, int(counter.count.numpy())) == (1, 1, 3, 3)
    assert asked == [3, 2], "the feeds are those of the step that is run"
    assert len(restored) == 2


def losing(monkeypatch, session, errors):
    """Let the session's saves fail with these errors, one after the other; then they succeed again."""
    original, left = session.manager.save, iter(errors)

    def save(step, metrics=None):
        error = next(left, None)
        if error is not None:
            raise error
        original(step, metrics)

    monkeypatch.setattr(session.manager, "save", save)


def test_training_is_over_when_its_last_step_is_saved(tmp_path, monkeypatch):
    counter, session, _ = flaky(tmp_path, monkeypatch, [], last_step=3)
    losing(monkeypatch, session, [None, tw.UninitialisedError("count was lost with its task.")])
    with pytest.warns(UserWarning, match="no checkpoint of step 3: count was lost"):
        for _ in range(3):
            session.run(counter.step)
    assert session.step == 3 and not session.should_stop()

    failing_once(monkeypatch, session, tw.UninitialisedError("count was lost with its task."))
    while not session.should_stop():
        session.run(counter.step)
    session.close()
    assert (session.recovered, session.step, steps_of(session.manager)) == (1, 3, [2, 3])


def test_the_last_save_waits_for_a_task_that_is_only_missing(tmp_path, monkeypatch):
    counter, session, target = flaky(tmp_path, monkeypatch, [])
    session.run(counter.step)
    losing(monkeypatch, session, [tw.UnavailableError("task /job:ps/task:0 is gone.")] * 2)
    session.close()
    assert (target.waited, steps_of(session.manager)) == (2, [1])


def test_a_session_that_cannot_save_at_its_end_says_which_checkpoint_there_is(tmp_path, monkeypatch):
    counter, session, _ = flaky(tmp_path, monkeypatch, [])
    for _ in range(3):
        session.run(counter.step)
    losing(monkeypatch, session, [tw.UninitialisedError("count was lost with its task.")])
    with pytest.raises(tw.UninitialisedError, match="count was lost") as raised:
        session.close()
    assert raised.value.__notes__ == ["The newest checkpoint is of step 2: a new session goes on there."]
    with pytest.raises(tw.GraphError, match="the session is closed"):
        session.run(counter.step)


def test_it_gives_up_after_too_many_failures_in_a_row(tmp_path, monkeypatch):
    counter, session, _ = flaky(tmp_path, monkeypatch, range(10), recoveries=3)
    with pytest.raises(tw.UnavailableError, match=r"given up after 3 recoveries: task /job:ps/task:0 is gone"):
        session.run(counter.step)
    assert session.recovered == 3


def test_other_errors_are_not_recovered_from(tmp_path):
    graph = tw.Graph()
    with graph.as_default():
        ids = tw.placeholder(tw.int32, (2,))
        pieces = tw.dynamic_partition(ids, ids, 2)
    with tw.train.MonitoredSession(graph, tmp_path, {}, save_steps=None) as session:
        with pytest.raises(tw.StepError, match="asks for partition 5 of 2"):
            session.run(pieces[0], {ids: np.array([0, 5], np.int32)})
        assert session.step == session.recovered == 0
