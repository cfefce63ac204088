"""Parts of a model on several devices: what k devices compute is what one computes, and steps overlap."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw


@pytest.fixture(autouse=True)
def devices():
    tw.config.set_virtual_devices(cpu=4)
    yield
    tw.config.set_virtual_devices(cpu=1)


def layers_on(places):
    """A small network, each layer with its variables on a device of its own."""
    rng = np.random.default_rng(0)
    layers = []
    for place in places:
        with tw.device(f"/device:CPU:{place}"):
            layers.append(tw.nn.Dense(6, 6, rng, activation=tw.tanh))
    return layers


def train(places, steps, optimizer):
    """Losses, and the variables in the end."""
    layers = layers_on(places)
    variables = [v for layer in layers for v in layer.trainable]
    rng = np.random.default_rng(1)

    @tw.function
    def step(x, y):
        def loss():
            h = x
            for place, layer in zip(places, layers, strict=True):
                with tw.device(f"/device:CPU:{place}"):
                    h = layer(h)
            return tw.mean((h - y) ** 2)

        value, grads = tw.value_and_grad(loss, wrt=variables)()
        optimizer.apply(zip(grads, variables, strict=True))
        return value

    batches = [[rng.normal(size=(5, 6)).astype(np.float32) for _ in range(2)] for _ in range(steps)]
    return [float(step(*batch)) for batch in batches], [v.numpy() for v in variables]


@settings(max_examples=8, deadline=None)
@given(places=st.lists(st.integers(0, 3), min_size=3, max_size=3), adam=st.booleans())
def test_layers_on_any_devices_train_as_on_one(places, adam):
    def make():
        return tw.optim.Adam(0.01) if adam else tw.optim.Momentum(0.1)

    found, values = train(places, 3, make())
    wanted, expected = train([0, 0, 0], 3, make())
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for a, b in zip(values, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.timeout(120)
def test_concurrent_steps_over_a_pipeline_of_devices_compute_what_they_compute_alone():
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (4, 6), name="x")
        layers, h = layers_on([0, 1, 2, 3]), x
        for place, layer in enumerate(layers):
            with tw.device(f"/device:CPU:{place}"):
                h = layer(h)
    rng = np.random.default_rng(2)
    inputs = [rng.normal(size=(4, 6)).astype(np.float32) for _ in range(40)]
    with tw.Session(graph) as session:
        alone = [np.asarray(session.run(h, {x: value})) for value in inputs]
        together = [None] * len(inputs)

        def run(first):
            for number in range(first, len(inputs), 4):
                together[number] = np.asarray(session.run(h, {x: inputs[number]}, timeout=60))

        threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
    for found, wanted in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found, wanted)


@settings(max_examples=6, deadline=None)
@given(
    count=st.integers(3, 30),
    shards=st.integers(1, 3),
    strategy=st.sampled_from(["mod", "div"]),
    ids=st.lists(st.integers(0, 29), min_size=1, max_size=12),
)
def test_any_table_in_any_pieces_is_that_table(count, shards, strategy, ids):
    values = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    places = np.array(ids, np.int32) % count
    table = tw.ShardedVariable((count, 2), shards, devices=[f"/device:CPU:{k}" for k in (1, 2, 3)], strategy=strategy)
    table.assign(values)

    @tw.function
    def rows_and_gradient(ids):
        def total():
            return tw.sum(table.lookup(ids) ** 2)

        return table.lookup(ids), [g.dense() for g in tw.grad(total, wrt=table.shards)()]

    rows, grads = rows_and_gradient(places)
    np.testing.assert_array_equal(rows, values[places])
    wanted = np.zeros_like(values)
    np.add.at(wanted, places, 2 * values[places])
    for shard, gradient in zip(table.shards, grads, strict=True):
        held = shard.part.rows
        np.testing.assert_allclose(gradient, wanted[held.start : held.stop : held.step], rtol=1e-5)
