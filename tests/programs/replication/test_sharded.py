"""Sharded variables: any number of shards, on any number of devices, gives what one table gives."""

import numpy as np
import pytest

import thalweg as tw


@pytest.fixture(autouse=True)
def devices():
    tw.config.set_virtual_devices(cpu=4)
    yield [f"/device:CPU:{k}" for k in range(1, 4)]
    tw.config.set_virtual_devices(cpu=1)


@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_rows_are_where_they_belong(strategy, shards):
    table = tw.ShardedVariable((10, 3), shards, strategy=strategy)
    whole = np.arange(30, dtype=np.float32).reshape(10, 3)
    table.assign(whole)
    assert sum(s.shape[0] for s in table.shards) == 10 and min(s.shape[0] for s in table.shards) > 0
    np.testing.assert_array_equal(table.numpy(), whole)
    ids = np.array([[3, 9, 0], [3, 3, 5]], np.int64)
    np.testing.assert_array_equal(table.lookup(ids), whole[ids])
    np.testing.assert_array_equal(table.lookup([-4, 99]), whole[[0, 9]])


def train(model, steps, optimizer):
    """Losses of an embedding that is trained on something."""
    rng = np.random.default_rng(1)

    @tw.function
    def step(ids, targets):
        def loss():
            return tw.mean((model(ids) - targets) ** 2)

        value, grads = tw.value_and_grad(loss, wrt=model.trainable)()
        assert all(isinstance(g, tw.IndexedSlices) for g in grads)
        optimizer.apply(zip(grads, model.trainable, strict=True))
        return value

    def batch():
        return rng.integers(0, 20, (4, 5)).astype(np.int32), rng.normal(size=(4, 5, 2)).astype(np.float32)

    return [float(step(*batch())) for _ in range(steps)]


@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("optimizer", [tw.optim.SGD, tw.optim.Adam])
def test_training_is_the_same_on_any_number_of_devices(devices, optimizer, strategy):
    values = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    one = tw.nn.Embedding(20, 2, np.random.default_rng(0))
    one.table.assign(values)
    wanted = train(one, 4, optimizer(0.1))
    for shards in (1, 2, 3):
        model = tw.nn.ShardedEmbedding(20, 2, shards=shards, devices=devices, strategy=strategy)
        model.table.assign(values)
        np.testing.assert_allclose(train(model, 4, optimizer(0.1)), wanted, rtol=1e-5)
        np.testing.assert_allclose(model.table.numpy(), one.table.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shards", [1, 3])
def test_softmax_over_shards(devices, shards):
    rng = np.random.default_rng(0)
    model = tw.nn.ShardedSoftmax(4, 11, rng, shards=shards, devices=devices)
    bias = rng.normal(size=11).astype(np.float32)
    model.bias.assign(bias)
    inputs, labels = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(0, 11, 6).astype(np.int32)
    weight = tw.Variable(model.weight.numpy(), name="whole")

    def full():
        return tw.mean(tw.nn.softmax_cross_entropy(inputs @ weight.value.T + bias, labels))

    @tw.function
    def sharded(inputs, labels):
        return tw.value_and_grad(lambda: tw.mean(model.loss(inputs, labels)), wrt=model.weight.shards)()

    value, grads = sharded(inputs, labels)
    wanted, dense = tw.value_and_grad(full, wrt=weight)()
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    np.testing.assert_allclose(np.concatenate([np.asarray(g) for g in grads]), dense, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tw.function(model)(inputs), inputs @ weight.numpy().T + bias, rtol=1e-4, atol=1e-5)


def test_sampled_softmax_over_shards(devices):
    rng = np.random.default_rng(0)
    model = tw.nn.ShardedSoftmax(4, 50, rng, shards=3, devices=devices)
    inputs, labels = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(0, 50, 6).astype(np.int32)
    key = tw.random.key(7)

    @tw.function
    def sharded(inputs, labels, key):
        def loss():
            return tw.mean(model.sampled_loss(inputs, labels, key, samples=8))

        return tw.value_and_grad(loss, wrt=model.weight.shards)()

    value, grads = sharded(inputs, labels, key)
    weight = tw.Variable(model.weight.numpy(), name="whole")

    def whole():
        return tw.mean(tw.nn.sampled_softmax(weight, np.zeros(50, np.float32), inputs, labels, key, samples=8))

    wanted, gradient = tw.value_and_grad(whole, wrt=weight)()
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    found = np.zeros((50, 4), np.float32)
    for shard, slices in zip(model.weight.shards, grads, strict=True):
        assert isinstance(slices, tw.IndexedSlices)
        rows = np.arange(50)[shard.part.rows.start : shard.part.rows.stop]
        np.add.at(found, rows[np.asarray(slices.indices)], np.asarray(slices.values))
    np.testing.assert_allclose(found, np.asarray(gradient), rtol=1e-4, atol=1e-6)


def test_work_is_done_where_the_shards_are_and_never_on_the_whole_table(devices):
    model = tw.nn.ShardedEmbedding(1_000_000, 8, shards=2, devices=devices, init=tw.initializers.zeros)
    optimizer = tw.optim.AdaGrad(0.1)

    @tw.function
    def step(ids):
        grads = tw.grad(lambda: tw.sum(model(ids) ** 2), wrt=model.trainable)()
        optimizer.apply(zip(grads, model.trainable, strict=True))

    text = step.ir("tw-optimized", np.array([3, 0, 5], np.int32))
    assert not [line for line in text.splitlines() if "-> tensor<500000x8xf32>" in line]
    for _ in range(2):
        step(np.array([3, 0, 999_999], np.int32))
    for slot in optimizer.slots_of(model.table.shards[1]).values():
        assert "CPU:2" in str(slot.scope) or "colocate" in slot.scope


def test_checkpoints_over_another_number_of_shards(tmp_path, devices):
    two = tw.nn.ShardedEmbedding(11, 2, shards=2)
    three = tw.nn.ShardedEmbedding(11, 2, np.random.default_rng(5), shards=3, devices=devices, strategy="div")
    tw.train.CheckpointManager(tmp_path, {"model": two}, asynchronous=False).save(1)
    tw.train.CheckpointManager(tmp_path, {"model": three}).restore(allow_unused=False)
    np.testing.assert_array_equal(three.table.numpy(), two.table.numpy())
    whole = tw.Variable(np.zeros((11, 2), np.float32), name="plain")
    tw.train.restore_checkpoint(tw.train.CheckpointManager(tmp_path, {}).latest, {"model": {"table": whole}})
    np.testing.assert_array_equal(whole.numpy(), two.table.numpy())


def test_misfits():
    with pytest.raises(ValueError, match="cannot be spread over 3 shards"):
        tw.ShardedVariable((2, 2), 3)
    with pytest.raises(ValueError, match="strategy must be"):
        tw.ShardedVariable((4, 2), 2, strategy="hash")
    table = tw.ShardedVariable((4, 2), 2)
    with pytest.raises(TypeError, match="ids must be integers"):
        table.lookup([0.5])
    with pytest.raises(ValueError, match="the shape must be"):
        table.assign(np.zeros((4, 3)))


@pytest.mark.parametrize(("saved", "restored"), [(2, 3), (3, 1)])
def test_an_optimisers_slots_are_resharded_with_the_variable(tmp_path, saved, restored):
    def make(shards):
        model = tw.nn.ShardedEmbedding(10, 2, shards=shards)
        optimizer = tw.optim.Momentum(0.1)
        optimizer.prepare(model.trainable)
        return {"model": model, "optimizer": optimizer}

    first, second = make(saved), make(restored)
    for shard in first["model"].table.shards:
        slot = first["optimizer"].slots_of(shard)["velocity"]
        slot.assign(shard.value * 2.0)
    tw.train.CheckpointManager(tmp_path, first, asynchronous=False).save(1)
    tw.train.CheckpointManager(tmp_path, second).restore(allow_unused=False)
    for shard in second["model"].table.shards:
        slot = second["optimizer"].slots_of(shard)["velocity"]
        np.testing.assert_array_equal(slot.numpy(), shard.numpy() * 2.0)
    np.testing.assert_array_equal(second["model"].table.numpy(), first["model"].table.numpy())
