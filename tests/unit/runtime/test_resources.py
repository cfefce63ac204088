"""What a task keeps: containers and variables."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from thalweg.dialects.diagnostics import StepError, UninitialisedError
from thalweg.dialects.types import TensorType, float32
from thalweg.runtime.resources import ALIGNMENT, Resources

pytestmark = pytest.mark.timeout(30)


class Thing:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_resource_is_made_once_per_container_kind_and_name() -> None:
    resources, made, start = Resources(), list[Thing](), threading.Barrier(8)

    def make() -> Thing:
        made.append(Thing())
        return made[-1]

    found: list[Thing] = []

    def get() -> None:
        start.wait()
        found.append(resources.get_or_create("", "queue", "q", make))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and found == made * 8
    keys = [("c", "queue", "q"), ("", "barrier", "q"), ("", "queue", "p")]
    others = [resources.get_or_create(*key, make) for key in keys]
    assert len({id(thing) for thing in [*others, *found]}) == 4
    assert resources.find("", "queue", "q") is found[0] and resources.find("", "queue", "nobody") is None


def test_a_reset_closes_what_is_in_the_containers_and_nothing_else() -> None:
    resources = Resources()
    ours, others = (resources.get_or_create(c, "queue", "q", Thing) for c in ("ours", "others"))
    resources.reset(["ours"])
    assert (ours.closed, others.closed) == (1, 0)
    assert resources.get_or_create("ours", "queue", "q", Thing) is not ours
    resources.reset()
    assert others.closed == 1 and resources.named("queue") == {}


def test_programs_share_containers_and_have_variables_of_their_own() -> None:
    resources = Resources()
    one, other = resources.scoped(), resources.scoped()
    one.bind("w", np.zeros(1))
    other.bind("w", np.ones(1))
    assert one.get_or_create("", "queue", "q", Thing) is other.get_or_create("", "queue", "q", Thing)
    assert resources.variables == {}
    with pytest.raises(StepError, match="two variables of this task are called 'w'"):
        one.bind("w", np.zeros(1))


def test_variables_live_here_until_their_container_is_reset() -> None:
    resources = Resources()
    buffer = resources.declare("w", TensorType((2, 3), float32), container="c")
    assert buffer.array.ctypes.data % ALIGNMENT == 0 and resources.missing(["w", "v"]) == ["w", "v"]
    resources.initialise({"w": np.full((2, 3), 7, np.float32), "v": np.arange(2)})
    assert resources.missing(["w", "v"]) == []
    assert resources.declare("w", TensorType((2, 3), float32)) is buffer
    values = resources.values(["w"])
    resources.reset(["c"])
    assert resources.missing(["w", "v"]) == ["w"]
    np.testing.assert_array_equal(values["w"], np.full((2, 3), 7))
    with pytest.raises(UninitialisedError, match="variable 'w' has no value yet"):
        resources.values(["w"])


def test_a_variable_keeps_its_type() -> None:
    resources = Resources()
    resources.declare("w", TensorType((2,), float32))
    with pytest.raises(StepError, match=r"variable 'w' is float32\[2\]; .* that is float64\[2\]"):
        resources.initialise({"w": np.zeros(2)})
    with pytest.raises(StepError, match=r"'w' is declared as f32\[3\], but this task holds float32\[2\]"):
        resources.declare("w", TensorType((3,), float32))


def test_two_holders_of_several_variables_do_not_wait_for_each_other() -> None:
    resources, inside = Resources(), [0]
    for name in "abc":
        resources.bind(name, np.zeros(1))

    def work(reads: str, writes: str) -> None:
        for _ in range(300):
            with resources.locked(reads, writes):
                inside[0] += 1  # all of them write to one of the others' variables
                assert inside[0] == 1
                inside[0] -= 1

    threads = [threading.Thread(target=work, args=pair) for pair in [("ab", "c"), ("c", "ba"), ("", "cab"), ("b", "c")]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
