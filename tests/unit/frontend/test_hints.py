"""Names of other libraries: the error says what to write here."""

from __future__ import annotations

import copy
import pickle

import pytest

import thalweg as tw


@pytest.mark.parametrize(("name", "hint"), [
    ("sum", "tw.sum(x, …)"), ("relu", "tw.nn.relu(x, …)"), ("reduce_max", "tw.max(x, …)"), ("view", "x.reshape(shape)"),
    ("detach", "tw.stop_gradient(x)"),
])  # fmt: skip
def test_methods_that_are_functions(name: str, hint: str) -> None:
    with pytest.raises(AttributeError) as eager:
        getattr(tw.ones((2,)), name)
    assert str(eager.value) == f"'EagerTensor' object has no attribute '{name}': write {hint}"
    with pytest.raises(AttributeError, match="'TracedTensor' object has no attribute"):
        tw.function(lambda x: getattr(x, name))(tw.ones((2,)))


@pytest.mark.parametrize(("name", "hint"), [
    ("reduce_sum", ": write tw.sum"), ("GradientTape", ": write tw.value_and_grad(f)"), ("gelu", ": write tw.nn.gelu"),
    ("normal", ": write tw.random.normal"), ("nonsense", ""),
])  # fmt: skip
def test_functions_of_other_names(name: str, hint: str) -> None:
    with pytest.raises(AttributeError) as error:
        getattr(tw, name)
    assert str(error.value) == f"module 'thalweg' has no attribute '{name}'{hint}"


def test_every_hint_is_an_expression_that_exists() -> None:
    from thalweg.frontend.hints import _OTHERWISE

    for name, hint in _OTHERWISE.items():
        assert not hasattr(tw, name), f"tw.{name} exists: no hint is needed"
        if hint.startswith("tw."):
            assert hasattr(tw, hint.removeprefix("tw.").partition("(")[0].partition(",")[0]), hint


def test_protocols_still_find_nothing() -> None:
    x = tw.ones((2,))
    assert not hasattr(x, "__array_interface__") and not hasattr(x, "_repr_html_") and not hasattr(x, "sum")
    assert pickle.loads(pickle.dumps(x)).shape == copy.deepcopy(x).shape == (2,)
