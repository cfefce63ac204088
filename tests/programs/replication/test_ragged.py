"""Numbers of rows that only the data decides: at once, in traced functions, in graphs, and through gradients."""

import numpy as np
import pytest

import thalweg as tw

IDS = [[1, 3, 3, 0], [1, 1, 1, 1], [9, 8, 7, 6]]


def table():
    return tw.Variable(np.arange(30, dtype=np.float32).reshape(10, 3), name="table")


def equal(found, wanted):
    np.testing.assert_array_equal(np.asarray(found), wanted)


def test_at_once():
    even, odd = tw.dynamic_partition([10, 11, 12], [0, 1, 0], 2)
    equal(even, [10, 12]), equal(odd, [11])
    equal(tw.merge_partitions([0, 1, 0], [even, odd]), [10, 11, 12])
    equal(tw.dynamic_stitch([[0, 2], [1]], [[1.0, 3.0], [2.0]]), [1, 2, 3])
    equal(tw.dynamic_stitch([[4, 1]], [[1.0, 3.0]], size=6), [0, 3, 0, 0, 1, 0])
    equal(tw.boolean_mask(tw.asarray([[1, 2], [3, 4]]), tw.asarray([[True, False], [True, True]])), [1, 3, 4])
    values, inverse, counts = tw.unique_with_counts([5, 2, 5])
    equal(values, [2, 5]), equal(inverse, [1, 0, 1]), equal(counts, [1, 2])
    pieces = tw.dynamic_partition(np.arange(8).reshape(2, 2, 2), [[0, 1], [1, 1]], 2)
    equal(pieces[0], [[0, 1]]), equal(pieces[1], [[2, 3], [4, 5], [6, 7]])
    equal(tw.lookup(table(), [2, 2]), [[6, 7, 8]] * 2)


def test_in_a_traced_function_for_any_number_of_rows():
    w = table()

    @tw.function
    def f(ids):
        values, inverse, counts = tw.unique_with_counts(ids)
        assert values.shape == (None,)
        rows = tw.lookup(w, values)
        return values, counts, tw.lookup(rows, inverse), tw.sum(rows * 2.0, axis=0)

    for ids in IDS:
        values, counts, rows, total = f(np.array(ids, np.int32))
        wanted, number = np.unique(ids, return_counts=True)
        equal(values, wanted), equal(counts, number)
        equal(rows, w.numpy()[ids]), equal(total, w.numpy()[wanted].sum(0) * 2)


def test_in_a_graph():
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (None, 2), name="x")
        kept = tw.boolean_mask(x, x[:, 0] > 0.0)
        total = tw.sum(kept)
    with tw.Session(graph) as session:
        for count in (1, 5, 3):
            values = np.random.default_rng(count).normal(size=(count, 2)).astype(np.float32)
            found, found_total = session.run([kept, total], {x: values})
            equal(found, values[values[:, 0] > 0])
            np.testing.assert_allclose(found_total, values[values[:, 0] > 0].sum(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", [tw.optim.SGD, tw.optim.Momentum, tw.optim.Adam, tw.optim.AdaGrad])
def test_sparse_gradients_of_any_number_of_rows(optimizer):
    """Partitioned, looked up piece by piece and merged, against one look-up of a known size."""
    a, b = table(), table()
    first, second = optimizer(0.1), optimizer(0.1)

    @tw.function
    def ragged(ids):
        def loss():
            pieces = tw.dynamic_partition(ids, ids % 3, 3)
            return tw.sum(tw.merge_partitions(ids % 3, [tw.lookup(a, p) for p in pieces]) ** 2)

        value, (gradient,) = tw.value_and_grad(loss, wrt=[a])()
        assert isinstance(gradient, tw.IndexedSlices)
        first.apply([(gradient, a)])
        return value

    @tw.function
    def plain(ids):
        value, (gradient,) = tw.value_and_grad(lambda: tw.sum(tw.take(b, ids, axis=0) ** 2), wrt=[b])()
        second.apply([(gradient, b)])
        return value

    for ids in IDS:
        ids = np.array(ids, np.int32)
        np.testing.assert_allclose(ragged(ids), plain(ids), rtol=1e-6)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_no_op_of_a_sparse_step_has_the_size_of_the_table():
    w = tw.Variable(np.zeros((1_000_003, 2), np.float32), name="big")
    optimizer = tw.optim.AdaGrad(0.1)

    @tw.function
    def step(ids):
        def loss():
            return tw.sum(tw.lookup(w, tw.boolean_mask(ids, ids > 0)) ** 2)

        optimizer.apply(zip(tw.grad(loss, wrt=[w])(), [w], strict=True))

    text = step.ir("tw-optimized", np.array([3, 0, 5], np.int32))
    made = [line for line in text.splitlines() if "-> tensor<1000003x2xf32>" in line or "tw.scatter" in line]
    assert "tw.update_rows" in text and not made


@pytest.mark.parametrize("op", ["partition", "mask", "stitch", "lookup"])
def test_dense_gradients_go_back_where_rows_came_from(op):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(6, 2)).astype(np.float32), rng.normal(size=(6, 2)).astype(np.float32)
    owners = np.array([1, 0, 2, 1, 1, 0], np.int32)

    def loss(x):
        if op == "partition":
            y = tw.merge_partitions(owners, [p * k for k, p in enumerate(tw.dynamic_partition(x, owners, 3), 1)])
        elif op == "mask":
            mask = tw.asarray(owners == 1)
            return tw.sum(tw.boolean_mask(x, mask) * tw.boolean_mask(weight, mask))  # as many rows: the mask is one
        elif op == "stitch":
            y = tw.dynamic_stitch([[5, 0, 1], [2, 3, 0]], [x[:3], x[3:]], size=6)
        else:
            y = tw.lookup(tw.boolean_mask(x, owners < 2), np.array([4, 0, 0, 1, 2, 3], np.int32))
        return tw.sum(y * weight)

    wanted = {
        "partition": weight * (owners + 1)[:, None],
        "mask": weight * (owners == 1)[:, None],
        "stitch": np.stack([weight[5], 0 * weight[0], *weight[1:4], weight[0]]),
        "lookup": np.stack([weight[1] + weight[2], weight[3], 0 * weight[0], weight[4], weight[5], weight[0]]),
    }[op]
    np.testing.assert_allclose(tw.function(tw.grad(loss))(x), wanted, rtol=1e-6)


def test_misfits_are_told_with_the_users_line():
    with pytest.raises(tw.StepError, match=r"test_ragged\.py:\d+: .*row 1 asks for partition 3 of 2"):
        tw.dynamic_partition([1, 2], [0, 3], 2)
    with pytest.raises(tw.TypeInferenceError, match=r"test_ragged\.py:\d+: .*must have one row per index"):
        tw.dynamic_partition([1, 2, 3], [0, 1], 2)
    with pytest.raises(tw.TypeInferenceError, match="at least 1 partition"):
        tw.dynamic_partition([1, 2], [0, 1], 0)
    with pytest.raises(tw.TypeInferenceError, match="takes a vector of indices per piece"):
        tw.dynamic_stitch([[1]], [])
    w = table()

    @tw.function
    def f(ids):
        return tw.lookup(w, tw.boolean_mask(ids, ids > 2))

    with pytest.raises(tw.StepError, match=r"test_ragged\.py:\d+: in f\(\).*id 11 is outside variable 'table.*10 rows"):
        f(np.array([1, 11], np.int32))
