"""Checkpoints on disk: pieces of several files, other rows than were written together, and damage that is told."""

import json

import numpy as np
import pytest

from thalweg.dialects.diagnostics import CheckpointError
from thalweg.runtime.checkpoints import (
    INDEX,
    Part,
    commit,
    complete,
    new_folder,
    open_checkpoint,
    remove,
    remove_incomplete,
    write_part,
)

TABLE = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)


def rows_of(shard: int, shards: int, interleaved: bool) -> range:
    """Rows of one of the shards of the table."""
    if interleaved:
        return range(shard, 10, shards)
    each = -(-10 // shards)
    return range(shard * each, min((shard + 1) * each, 10))


def sharded(folder, shards, interleaved, step=1):
    """A checkpoint of the table in pieces, each written for itself."""
    pieces = []
    for shard in range(shards):
        rows = rows_of(shard, shards, interleaved)
        part = Part("table", TABLE.shape, rows)
        arrays = {f"table.{shard}": TABLE[rows.start : rows.stop : rows.step]}
        pieces += write_part(folder, f"part-{shard}", arrays, {f"table.{shard}": part})
    return commit(folder, pieces, step)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("written", [1, 2, 3])
@pytest.mark.parametrize("read", [1, 2, 3, 4])
def test_any_number_of_shards_reads_what_any_other_wrote(tmp_path, written, read, interleaved):
    checkpoint = sharded(tmp_path / "step-1", written, interleaved)
    assert checkpoint.types["table"].shape == (10, 3)
    np.testing.assert_array_equal(checkpoint.read("table"), TABLE)
    for shard in range(read):
        for other in (False, True):
            rows = rows_of(shard, read, other)
            wanted = TABLE[rows.start : rows.stop : rows.step]
            np.testing.assert_array_equal(checkpoint.read("table", rows), wanted)


def test_what_has_no_index_is_no_checkpoint(tmp_path):
    write_part(tmp_path / "step-1", "part-0", {"a": TABLE})
    sharded(tmp_path / "step-2", 2, True, step=2)
    assert [c.step for c in complete(tmp_path)] == [2]
    with pytest.raises(CheckpointError, match="was never completed"):
        open_checkpoint(tmp_path / "step-1")
    with pytest.raises(CheckpointError, match="is not there; did you mean 'step-2'"):
        open_checkpoint(tmp_path / "step-20")
    assert remove_incomplete(tmp_path) == [tmp_path / "step-1"]
    remove(tmp_path / "step-2")
    assert list(tmp_path.iterdir()) == []


def test_steps_are_in_order_of_their_numbers(tmp_path):
    for step in (9, 100, 20, 20):
        folder = new_folder(tmp_path, step)
        commit(folder, write_part(folder, "part-0", {"a": TABLE}), step, {"loss": 1.5})
    assert [c.step for c in complete(tmp_path)] == [9, 20, 20, 100]
    assert complete(tmp_path)[0].metrics == {"loss": 1.5}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([range(5), range(4, 10)], "row 4 of 'table' is in 2 pieces"),
        ([range(5), range(6, 10)], "row 5 of 'table' is in 0 pieces"),
    ],
)
def test_pieces_must_be_the_whole(tmp_path, rows, message):
    pieces = []
    for number, some in enumerate(rows):
        part = Part("table", TABLE.shape, some)
        pieces += write_part(tmp_path / "x", f"{number}", {"t": TABLE[some.start : some.stop]}, {"t": part})
    with pytest.raises(CheckpointError, match=message):
        commit(tmp_path / "x", pieces, 1)
    assert not (tmp_path / "x" / INDEX).exists()


def test_every_flipped_bit_is_noticed(tmp_path):
    checkpoint = sharded(tmp_path / "step-1", 2, False)
    path = checkpoint.path / "part-1"
    data = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(data), 60):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(place) % 8
        path.write_bytes(damaged)
        try:
            found = checkpoint.read("table")
        except CheckpointError as error:
            assert "part-1 is damaged" in str(error)
        else:  # a bit of the header that does not matter: of the padding, or of the metadata
            np.testing.assert_array_equal(found, TABLE)
    path.write_bytes(data)
    checkpoint.verify()
    np.testing.assert_array_equal(checkpoint.read("table", range(3)), TABLE[:3])


def test_a_file_that_is_gone_and_an_index_that_is_damaged(tmp_path):
    checkpoint = sharded(tmp_path / "step-1", 2, False)
    (checkpoint.path / "part-0").unlink()
    with pytest.raises(CheckpointError, match=r"part-0 is damaged: .*No such file"):
        checkpoint.verify()
    index = checkpoint.path / INDEX
    text = index.read_text()
    index.write_text(text[: len(text) // 2])
    with pytest.raises(CheckpointError, match=r"index\.json is damaged"):
        open_checkpoint(checkpoint.path)
    index.write_text(json.dumps({"format": "thalweg-checkpoint-9"}))
    with pytest.raises(CheckpointError, match="is of the format 'thalweg-checkpoint-9'"):
        open_checkpoint(checkpoint.path)


def test_unknown_names(tmp_path):
    checkpoint = sharded(tmp_path / "step-1", 1, False)
    with pytest.raises(CheckpointError, match="no tensor 'tables'; did you mean 'table'"):
        checkpoint.read("tables")
