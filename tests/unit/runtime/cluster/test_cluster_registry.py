"""Clusters by name: the record is private, whole, and followed."""

import os
import stat
import time

import pytest

from thalweg.dialects.diagnostics import UnavailableError
from thalweg.runtime.cluster.registry import Follower, Publisher, Record, Registry


def record(name="night", pid=None, **tasks):
    return Record(name, {"worker": 2}, tasks, "public", "very secret", "127.0.0.1", pid or os.getpid())


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "clusters")


class FakeMaster:
    """Keeps what it is told."""

    def __init__(self):
        self.tasks, self.events = {}, []

    def adopt(self, tasks):
        self.tasks.update(tasks)
        self.events.append(("adopt", dict(tasks)))

    def lose(self, name, error):
        self.tasks.pop(name, None)
        self.events.append(("lose", name))

    def ping(self):
        pass


def until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_record_comes_back_and_only_its_user_can_read_it(registry, tmp_path):
    registry.write(record(a="x"))
    assert registry.read("night") == record(a="x")
    (file,) = (tmp_path / "clusters").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "very secret" not in repr(record())


def test_names_that_are_not_there_are_told_with_the_nearest(registry):
    registry.write(record())
    with pytest.raises(UnavailableError, match=r"no cluster 'nigth' runs here; did you mean 'night'\?"):
        registry.read("nigth")
    with pytest.raises(ValueError, match="is no name for a cluster"):
        registry.read("../night")


def test_the_record_of_a_process_that_ended_is_removed(registry):
    registry.write(record(pid=2**22 - 1))
    with pytest.raises(UnavailableError, match="has ended"):
        registry.read("night")
    assert registry.names() == [] and not registry.runs("night")


def test_a_follower_hears_of_deaths_and_returns(registry):
    registry.write(record(a="1", b="1"))
    master = FakeMaster()
    follower = Follower(registry, "night", master)
    assert master.tasks == {"a": "1", "b": "1"}
    registry.write(record(a="1"))
    until(lambda: master.tasks == {"a": "1"})
    registry.write(record(a="2", b="2"))
    until(lambda: master.tasks == {"a": "2", "b": "2"})
    assert ("lose", "a") in master.events and ("lose", "b") in master.events
    registry.remove("night")
    until(lambda: not master.tasks)
    follower.close()


def test_a_publisher_writes_what_changes_and_takes_it_away_at_the_end(registry):
    tasks = {"a": "1"}
    publisher = Publisher(registry, "night", lambda: record(**tasks))
    assert registry.read("night").tasks == {"a": "1"}
    tasks["a"] = "2"
    until(lambda: registry.read("night").tasks == {"a": "2"})
    publisher.close()
    assert registry.names() == []
