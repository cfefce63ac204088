"""Programs that the executor runs: host ops and compiled clusters together, on one device and on several."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deadlines import together
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw
from thalweg.backends.cpu.executable import Executable
from thalweg.compiler import CompiledProgram, driver
from thalweg.loading import CompiledCluster, SizedCluster
from thalweg.runtime import tracing
from thalweg.runtime.flat import Op
from thalweg.steps import StepProgram

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def two_devices() -> Iterator[None]:
    with tw.config.override(virtual_cpus=2):
        yield


def compiled(function: Any, *arguments: Any) -> Any:
    """What the driver makes of a traced function."""
    return driver().compile(function.program(*arguments))


def operations(step: StepProgram) -> list[Op]:
    executor = step.task._registered["step"].executor
    return [op for layout in executor.layouts for op in layout.ops]


def codes(op: Op) -> list[Executable]:
    """The machine code of a cluster, one for each size that has come."""
    if isinstance(op.run, SizedCluster):
        return [cluster._executable for cluster in op.run._sizes.values()]
    return [op.run._executable] if isinstance(op.run, CompiledCluster) else []


def positive(x: Any) -> Any:
    """The elements above zero: how many, only the data decides."""
    return tw.boolean_mask(x, x > 0)


def test_host_ops_and_clusters_make_one_step() -> None:
    @tw.function
    def f(x: Any) -> Any:
        return tw.sum(tw.exp(positive(x * 2.0)) + 1.0)

    x = np.array([-1.0, 0.5, 1.0], np.float32)
    np.testing.assert_allclose(f(x), np.exp(1) + np.exp(2) + 2, rtol=1e-6)
    step = compiled(f, x)
    assert isinstance(step, StepProgram)
    assert sorted(op.node.op for op in operations(step)) == ["boolean_mask", "cluster", "cluster"]


def test_what_needs_no_step_after_optimisation_takes_the_quick_way() -> None:
    @tw.function
    def f(x: Any) -> Any:
        positive(x)  # nobody uses it
        return x + 1.0

    step = compiled(f, np.ones(3, np.float32))
    assert isinstance(step, CompiledProgram) and step.direct is not None


def test_clusters_are_compiled_for_the_sizes_that_come() -> None:
    @tw.function
    def f(x: Any) -> Any:
        kept = positive(x)
        return tw.cumulative_sum(kept) * 2.0, kept - tw.mean(kept)

    for count in (1, 5, 2, 5, 1):
        x = np.concatenate([np.arange(1, count + 1), -np.arange(8.0 - count)]).astype(np.float32)
        summed, centred = f(x)
        wanted = np.arange(1, count + 1, dtype=np.float32)
        np.testing.assert_allclose(summed, wanted.cumsum() * 2)
        np.testing.assert_allclose(centred, wanted - wanted.mean(), atol=1e-6)


def test_results_are_not_the_callers_arrays() -> None:
    @tw.function
    def f(x: Any) -> Any:
        return x, positive(x)

    x = np.ones(3, np.float32)
    same, kept = f(x)
    x[:] = 7
    np.testing.assert_array_equal(same, np.ones(3))
    np.testing.assert_array_equal(kept, np.ones(3))


def test_operations_on_one_variable_happen_in_the_order_they_are_written() -> None:
    w = tw.Variable(np.zeros((), np.float32), name="ordered")

    @tw.function
    def f(x: Any) -> Any:
        w.assign(tw.sum(positive(x)))
        first = w.value
        w.assign(first * 10.0)
        kept = positive(x * first)
        w.assign_add(tw.sum(kept))
        return first, w.value

    first, last = f(np.array([1, -1, 2], np.float32))
    assert (float(first), float(last), float(w.value)) == (3, 39, 39)


def test_a_big_variable_stays_where_it_is() -> None:
    """No cluster gives the table to another: it is read where it is used."""
    table = tw.Variable(np.ones((1000, 50), np.float32), name="table")

    @tw.function
    def f(x: Any) -> Any:
        kept = positive(x)
        table.assign_add(tw.zeros((1000, 50)) + tw.sum(kept))
        return tw.sum(table.value[3] * tw.sum(kept)) + tw.mean(positive(tw.sum(table.value, axis=1)))

    x = np.array([1, -1], np.float32)
    step = compiled(f, x)
    step([x])
    given = [type_ for op in operations(step) for code in codes(op) for type_ in code.outputs[: op.node.outputs]]
    assert given and max(type_.size for type_ in given) <= 1000
    np.testing.assert_allclose(table.numpy(), np.full((1000, 50), 2))


def test_clusters_that_differ_in_names_only_are_compiled_once() -> None:
    def make(name: str) -> Any:
        w = tw.Variable(np.ones(3, np.float32), name=name)

        @tw.function
        def f(x: Any) -> Any:
            w.assign_add(tw.sum(positive(x)) * w.value)
            return w.value

        return f

    x = np.array([1, -1, 2], np.float32)
    one, other = ([code for op in operations(compiled(make(name), x)) for code in codes(op)] for name in ("w1", "w2"))
    assert len(one) == 1 and one[0] is other[0]


def test_errors_name_the_op_and_the_users_line() -> None:
    queue = tw.FIFOQueue(capacity=2, dtypes=[tw.float32], shapes=[()], name="closed")
    queue.close()

    @tw.function
    def f() -> Any:
        return queue.dequeue() + 1.0

    with pytest.raises(tw.OutOfRangeError, match=r"test_step_programs.py:\d+: in f\(\): dequeue '.*': .*closed"):
        f()


def test_checking_for_nans_names_the_op_in_a_cluster() -> None:
    w = tw.Variable(np.ones(3, np.float32), name="w")

    @tw.function
    def f(x: Any) -> Any:
        kept = tw.sum(positive(x))
        w.assign(tw.log(x) * kept)
        return w.value + 1.0

    x = np.array([1, 2, -3], np.float32)
    with tw.config.override(check_nans=True):
        np.testing.assert_array_equal(f(np.abs(x)), np.log(np.abs(x)) * 6 + 1)
        with pytest.raises(tw.ExecutionError, match=r"test_step_programs.py:\d+: .*log made the first NaN: 1 of the 3"):
            f(x)
    assert np.isnan(np.asarray(f(x))).sum() == 1


def test_stages_show_the_clusters() -> None:
    @tw.function
    def f(x: Any) -> Any:
        return tw.boolean_mask(tw.exp(x), x > 0)

    text = f.ir("stablehlo", np.ones(3, np.float32))
    assert text.startswith("// /device:CPU:0 cluster") and "stablehlo.exponential" in text
    assert "stablehlo.exponential" not in f.ir("llvm", np.ones(3, np.float32))


def test_every_stage_of_a_step_is_dumped(tmp_path: Path) -> None:
    with tw.config.override(dump_dir=str(tmp_path)):
        tw.function(lambda x: tw.boolean_mask(tw.exp(x), x > 0), name="dumped")(np.ones(3, np.float32))
    found = {path.name.split(".")[2]: path.read_text() for path in tmp_path.glob("dumped.*.txt")}
    assert "tw.boolean_mask" in found["tw-optimized"] and "cluster" in found["stablehlo"]


def test_programs_compile_on_several_threads_while_steps_run() -> None:
    """A cluster of a new size is compiled inside a step, while others trace and compile."""

    def work(number: int) -> None:
        @tw.function
        def f(x: Any) -> Any:
            return tw.sum(tw.exp(positive(x)) * float(number))

        for count in range(1, 5):
            x = np.concatenate([np.ones(count), -np.ones(4)]).astype(np.float32)
            np.testing.assert_allclose(f(x), count * np.e * number, rtol=1e-5)

    together([lambda k=k: work(k) for k in range(4)])


def test_a_trace_shows_what_ran_and_what_was_sent(two_devices: None) -> None:
    @tw.function
    def f(x: Any) -> Any:
        with tw.device("cpu:1"):
            y = tw.exp(x)
        with tw.device("cpu:0"):
            return y + 1.0

    x = np.zeros(4, np.float32)
    with tracing.trace_steps(None) as trace:
        np.testing.assert_array_equal(f(x), np.full(4, 2, np.float32))
    assert list(trace.bytes_per_edge().values()) == [16]
    assert {event.device for event in trace.events if hasattr(event, "begin")} == {"/device:CPU:0", "/device:CPU:1"}


# Several devices


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["add", "mul", "exp", "assign", "mask"]), st.integers(0, 3)), min_size=2,
             max_size=8),
    st.integers(0, 2**32 - 1),
)
def test_several_devices_give_what_one_gives(ops: list[tuple[str, int]], seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-1, 1, 6).astype(np.float32)

    def run(devices: int) -> list[np.ndarray]:
        w = tw.Variable(np.ones(6, np.float32), name="shared")

        @tw.function
        def f(value: Any) -> Any:
            seen = [value]
            for op, place in ops:
                with tw.device(f"cpu:{place % devices}"):
                    last = seen[(place * 7) % len(seen)]
                    if op == "add":
                        seen.append(last + w.value)
                    elif op == "mul":
                        seen.append(last * seen[-1])
                    elif op == "exp":
                        seen.append(tw.exp(tw.minimum(last, 1.0)))
                    elif op == "assign":
                        w.assign_add(last)
                    else:
                        seen.append(last + tw.sum(positive(last)))
            return seen[-1], w.value

        with tw.config.override(virtual_cpus=devices):
            return [np.asarray(t) for t in (*f(x), *f(x))]

    for one, several in zip(run(1), run(4), strict=True):
        np.testing.assert_allclose(several, one, rtol=1e-5)


# Many steps at once


def test_no_update_is_lost_by_steps_of_different_programs_on_many_threads() -> None:
    w = tw.Variable(np.zeros(64, np.float32), name="w")
    b = tw.Variable(np.zeros((), np.float32), name="b")

    def make(number: int) -> Callable[[Any], Any]:
        @tw.function
        def plain(x: Any) -> Any:
            w.assign_add(x)
            if number % 4 == 0:
                b.assign_add(1.0)
            return w.value * float(number + 1)

        @tw.function
        def step(x: Any) -> Any:
            w.assign_add(x + 0.0 * tw.sum(positive(x)))
            if number % 4 == 1:
                b.assign_add(tw.sum(positive(x)) / 64.0)
            return b.value * float(number + 1)

        return plain if number % 2 == 0 else step

    x = np.ones(64, np.float32)
    functions = [make(k) for k in range(8)]
    for function in functions:
        function(x)
    before, counted = w.numpy(), float(b.value)

    def eagerly(_: Any) -> None:
        w.assign_add(x)

    together([lambda f=f: [f(x) for _ in range(1000)] for f in [*functions, eagerly]])
    np.testing.assert_array_equal(w.numpy() - before, np.full(64, 9000))
    assert float(b.value) - counted == 4000


def test_a_reader_never_sees_half_of_a_write() -> None:
    w = tw.Variable(np.zeros(200_000, np.float32), name="whole")

    @tw.function
    def write(x: Any) -> Any:
        w.assign(w.value + x)

    @tw.function
    def spread() -> Any:
        return tw.max(w.value) - tw.min(w.value)

    one, spreads = np.float32(1), list[float]()
    together([lambda: [write(one) for _ in range(200)], lambda: spreads.extend(float(spread()) for _ in range(200))])
    assert max(spreads) == 0


def test_a_thousand_runs_at_once_over_a_small_queue() -> None:
    graph = tw.Graph()
    with graph.as_default():
        queue = tw.FIFOQueue(capacity=4, dtypes=[tw.float32], shapes=[()], name="small")
        x = tw.placeholder(tw.float32, (), name="x")
        total = tw.Variable(np.zeros((), np.float32), name="total")
        push, take = queue.enqueue([x]), total.assign_add(queue.dequeue())
    with tw.Session(graph) as session:
        session.run(push, feeds={x: 0.0})
        session.run(take)

        def run(number: int) -> None:
            if number % 2:
                session.run(push, feeds={x: float(number // 2)}, timeout=60)
            else:
                session.run(take, timeout=60)

        together([lambda k=k: run(k) for k in range(1000)])
        assert float(session.run(total)) == sum(range(500))


def test_a_step_that_waits_ends_when_its_time_is_up() -> None:
    graph = tw.Graph()
    with graph.as_default():
        queue = tw.FIFOQueue(capacity=4, dtypes=[tw.float32], shapes=[()], name="empty")
        taken = queue.dequeue()
    with tw.Session(graph) as session:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"waiting for .*test_step_programs.py:\d+: .*dequeue"):
            session.run(taken, timeout=0.05)
        assert time.monotonic() - began < 10
