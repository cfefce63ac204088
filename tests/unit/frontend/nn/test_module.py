"""Modules: the variables that they find."""

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend import nn


def rng():
    return np.random.default_rng(0)


class Tower(nn.Module):
    def __init__(self):
        self.layers = [nn.Dense(2, 3, rng()), nn.Dense(3, 3, rng(), bias=False)]
        self.heads = {"a": nn.Dense(3, 1, rng())}
        self.scale = tw.Variable(np.float32(1), name="scale", trainable=False)
        self.tied = self.layers[0].weight
        self.note = "not a variable"

    def __call__(self, x, *, training=False):
        for layer in self.layers:
            x = layer(x)
        return self.heads["a"](x) * self.scale


def test_variables_are_found_by_path_in_order_and_once():
    tower = Tower()
    paths = ["layers.0.weight", "layers.0.bias", "layers.1.weight", "heads.a.weight", "heads.a.bias", "scale"]
    assert list(tower.variables()) == paths
    assert tower.variables()["layers.0.weight"] is tower.layers[0].weight


def test_trainable_leaves_out_what_is_not():
    tower = Tower()
    assert [id(v) for v in tower.trainable] == [id(v) for v in tower.variables().values()][:-1]


def test_cycles_end():
    tower = Tower()
    tower.itself = tower
    assert len(tower.variables()) == 6


def test_sequential_applies_layers_and_functions_in_turn_and_passes_training_on():
    class Probe(nn.Module):
        def __call__(self, x, *, training=False):
            return x + (1.0 if training else 0.0)

    model = nn.Sequential(nn.Dense(2, 3, rng(), activation=nn.relu), nn.tanh, Probe())
    x = np.ones((4, 2), np.float32)
    plain = np.asarray(model(x))
    np.testing.assert_allclose(np.asarray(model(x, training=True)), plain + 1, rtol=1e-6)
    expected = np.tanh(np.maximum(x @ np.asarray(model[0].weight), 0))
    np.testing.assert_allclose(plain, expected, rtol=1e-5)
    assert len(model) == 3 and list(model.variables()) == ["layers.0.weight", "layers.0.bias"]


def test_representations_tell_the_shape_of_a_model():
    layers = [nn.Conv(1, 8, 3, rng()), nn.relu, nn.LayerNorm(8), nn.LSTM(8, 4, rng()), nn.Dense(4, 2, rng())]
    model = nn.Sequential(*layers)
    assert repr(model) == "Sequential(Conv(1 -> 8, 3x3), relu, LayerNorm(8), LSTM(8 -> 4), Dense(4 -> 2))"


def test_a_module_without_a_call_says_so():
    with pytest.raises(NotImplementedError, match="Nothing has no __call__"):
        type("Nothing", (nn.Module,), {})()(1)
