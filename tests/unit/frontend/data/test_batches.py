"""Minibatches: structure, order, remainders, progress."""

import numpy as np
import pytest

from thalweg.frontend import data


def rows(iterable):
    return [np.asarray(batch).tolist() for batch in iterable]


def test_batches_keep_the_order_and_the_remainder():
    assert rows(data.batches(np.arange(5), 2)) == [[0, 1], [2, 3], [4]]
    assert rows(data.batches(np.arange(5), 2, drop_remainder=True)) == [[0, 1], [2, 3]]


def test_the_structure_of_the_data_is_the_structure_of_a_batch():
    batch = next(iter(data.batches({"x": np.zeros((4, 2)), "y": (np.ones(4), [np.zeros(4)])}, 3)))
    assert batch["x"].shape == (3, 2)
    assert isinstance(batch["y"], tuple) and isinstance(batch["y"][1], list)
    assert batch["y"][1][0].shape == (3,)


def test_rows_of_the_arrays_stay_together_when_shuffled():
    for a, b in data.batches((np.arange(100), np.arange(100) * 2), 7, shuffle=True):
        np.testing.assert_array_equal(b, a * 2)


def test_the_order_depends_on_seed_and_epoch_alone():
    def make(seed):
        return data.batches(np.arange(20), 20, shuffle=True, seed=seed, epochs=2)

    first, second = rows(make(0))
    assert sorted(first) == list(range(20)) and first != second
    assert rows(make(0)) == [first, second] != rows(make(1))
    again = make(0)
    assert rows(again) != rows(again), "a second iteration goes on to the next epochs"


def test_length_and_epoch_count_what_is_yielded():
    batches = data.batches(np.arange(10), 4, epochs=3)
    assert len(batches) == 9 == len(list(batches))
    assert batches.epoch == 3


def test_a_number_of_steps_takes_as_many_epochs_as_it_needs():
    batches = data.batches(np.arange(4), 2, steps=5)
    assert len(batches) == 5
    assert rows(batches) == [[0, 1], [2, 3], [0, 1], [2, 3], [0, 1]]


@pytest.mark.parametrize(
    "arrays, size, words",
    [
        ((np.zeros(3), np.zeros(4)), 2, r"same number of rows.*\(3,\), \(4,\)"),
        ((), 2, "no arrays"),
        (np.float32(1), 2, "same number of rows"),
        (np.zeros(3), 0, "size=0"),
        (np.zeros((0, 2)), 2, "0 rows make no batch"),
    ],
)
def test_data_that_make_no_batches_are_refused(arrays, size, words):
    with pytest.raises(ValueError, match=words):
        data.batches(arrays, size)


def test_too_few_rows_for_one_full_batch_are_refused():
    with pytest.raises(ValueError, match="3 rows make no batch of 4"):
        data.batches(np.zeros(3), 4, drop_remainder=True)


def test_a_progress_bar_shows_title_count_and_reported_numbers(capsys):
    batches = data.batches(np.arange(6), 2, progress="warming up")
    for batch in batches:
        batches.report(loss=np.float32(batch[0]))
    shown = capsys.readouterr().err
    assert "warming up" in shown and "3/3" in shown and "loss 4" in shown


def test_leaving_the_loop_early_ends_the_bar(capsys):
    batches = data.batches(np.arange(6), 2, progress=True)
    for _ in batches:
        break
    batches.report(loss=1.0)
    assert "loss" not in capsys.readouterr().err
