"""Input pipelines in graphs: files to training steps, without the client in between."""

from __future__ import annotations

import io
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.runtime.readers.records import framed
from thalweg.runtime.tracing import Ran, trace_steps

WEIGHTS = np.array([2.0, -1.0, 0.5], np.float32)


def drained(graph: tw.Graph, fetches) -> list:
    """What a graph's pipeline gives until the data is at an end."""
    found = []
    with tw.Session(graph) as session:
        coordinator = tw.train.Coordinator()
        tw.train.start_queue_runners(session, coordinator)
        with coordinator.stop_on_exception():
            while not coordinator.should_stop():
                found.append(session.run(fetches, timeout=60))
        coordinator.join(stop_grace_period=30)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("thalweg-queue")]
    return found


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(3):
        x = rng.normal(size=(100, 3)).astype(np.float32)
        rows = [[*map(repr, map(float, r)), repr(float(r @ WEIGHTS + 0.25))] for r in x]
        lines = ["a,b,c,y", *(",".join(row) for row in rows)]
        (tmp_path / f"part{number}.csv").write_text("\n".join(lines))
    return tmp_path


def test_training_from_csv_files(tables: Path) -> None:
    graph = tw.Graph()
    with graph.as_default():
        files = tw.train.string_input_producer(tables / "*.csv", num_epochs=5)
        a, b, c, y = tw.io.CSVReader(dict.fromkeys("abcy", tw.float32)).read(files)
        x, y = tw.train.shuffle_batch((tw.stack([a, b, c]), y), 20, capacity=200, min_after_dequeue=100, seed=0)
        w, bias = tw.Variable(tw.zeros((3,)), name="w_csv"), tw.Variable(0.0, name="bias_csv")
        opt = tw.optim.SGD(0.1)
        loss, gradients = tw.value_and_grad(lambda: tw.mean((x @ w + bias - y) ** 2), wrt=[w, bias])()
        train = opt.apply(zip(gradients, [w, bias], strict=True))
    losses = [float(loss) for _, loss in drained(graph, [train, loss])]
    assert len(losses) == 3 * 100 * 5 // 20 and losses[0] > 1 and losses[-1] < 1e-6
    np.testing.assert_allclose(w.numpy(), WEIGHTS, atol=1e-4)


def test_every_record_comes_once_per_epoch_with_many_readers(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text("\n".join(f"{number}:{line}" for line in range(40)))
    graph = tw.Graph()
    with graph.as_default():
        files = tw.train.string_input_producer([tmp_path / "*.txt"], num_epochs=2, seed=3)
        sources = [tw.io.TextLineReader().read(files) for _ in range(3)]
        keys, lines = tw.train.batch_join(sources, 7, allow_smaller_final_batch=True)
    got: Counter[bytes] = Counter()
    for _, batch in drained(graph, [keys, lines]):
        got.update(batch.tolist())
    assert got == Counter({f"{n}:{line}".encode(): 2 for n in range(6) for line in range(40)})


def test_the_last_batch_is_left_out_unless_asked_for() -> None:
    graph = tw.Graph()
    with graph.as_default():
        row = tw.train.slice_input_producer({"x": np.arange(10, dtype=np.int32)}, num_epochs=1, shuffle=False)
        batch = tw.train.batch(row, 4)
    assert batch["x"].shape == (4,)
    assert [b["x"].tolist() for b in drained(graph, batch)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_slices_are_shuffled_and_complete() -> None:
    x = np.arange(50, dtype=np.int32)
    graph = tw.Graph()
    with graph.as_default():
        a, b = tw.train.slice_input_producer([x, x * 2], num_epochs=2, seed=1)
    found = [(int(p), int(q)) for p, q in drained(graph, [a, b])]
    assert all(q == 2 * p for p, q in found)
    assert Counter(p for p, _ in found) == Counter(list(range(50)) * 2)
    assert [p for p, _ in found[:50]] != list(range(50))


def test_enqueue_many_and_several_threads(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.bin").write_bytes(bytes(range(number * 32, number * 32 + 32)))
    graph = tw.Graph()
    with graph.as_default():
        files = tw.train.string_input_producer(tmp_path / "*.bin", num_epochs=1)
        _, records = tw.io.FixedLengthReader(2).read_up_to(files, 5)
        pairs = tw.train.batch(tw.io.decode_raw(records, shape=(2,)), 8, num_threads=3, enqueue_many=True)
    rows = np.concatenate([np.asarray(b) for b in drained(graph, pairs)])
    assert rows.shape == (64, 2) and sorted(rows[:, 0].tolist()) == list(range(0, 128, 2))
    assert (rows[:, 1] == rows[:, 0] + 1).all()


def test_buckets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sentences = [",".join(map(str, range(1, n + 1))) for n in rng.integers(1, 13, 80)]
    (tmp_path / "text").write_text("\n".join(sentences))
    graph = tw.Graph()
    with graph.as_default():
        files = tw.train.string_input_producer([tmp_path / "text"], num_epochs=1)
        _, content = tw.io.TextLineReader().read(files)
        letters = tw.io.decode_raw(content)
        lengths, batch = tw.train.bucket_by_sequence_length(
            tw.extent(letters, 0), letters, 8, [5, 10, 15], allow_smaller_final_batch=True
        )
    seen = []
    for sizes, rows in drained(graph, [lengths, batch]):
        assert rows.shape == (len(sizes), max(sizes.tolist()))
        assert len({sum(n >= edge for edge in (5, 10, 15)) for n in sizes.tolist()}) == 1, "one bucket"
        seen += [bytes(row[:n]).decode() for row, n in zip(np.asarray(rows), sizes.tolist(), strict=True)]
    assert Counter(seen) == Counter(sentences)


def test_parquet_and_images_and_whole_files(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    image_module = pytest.importorskip("PIL.Image")
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    (tmp_path / "images").mkdir()
    for number in range(4):
        file = io.BytesIO()
        image_module.fromarray(pixels + number).save(file, "PNG")
        (tmp_path / "images" / f"{number}.png").write_bytes(file.getvalue())
    table = pa.table({"x": pa.array([[i, i + 1] for i in range(10)], pa.list_(pa.float32(), 2)), "y": list(range(10))})
    parquet.write_table(table, tmp_path / "t.parquet")

    graph = tw.Graph()
    with graph.as_default():
        files = tw.train.string_input_producer(tmp_path / "images" / "*.png", num_epochs=1, shuffle=False)
        name, content = tw.io.WholeFileReader().read(files)
        images, names = tw.train.batch([tw.io.decode_image(content, size=(6, 8)), name], 4)
        brightness = tw.mean(tw.astype(images, tw.float32), axis=(1, 2, 3))
    ((found, labels, means),) = drained(graph, [images, names, brightness])
    assert np.array_equal(found, np.stack([pixels + n for n in range(4)]))
    assert [Path(n.decode()).name for n in labels.tolist()] == ["0.png", "1.png", "2.png", "3.png"]
    np.testing.assert_allclose(means, np.asarray(found).mean((1, 2, 3)), rtol=1e-5)

    graph = tw.Graph()
    with graph.as_default():
        files = tw.train.string_input_producer(tmp_path / "t.parquet", num_epochs=1)
        x, y = tw.io.ParquetReader({"x": tw.spec((2,), tw.float32), "y": tw.int32}).read_many(files, 5)
    batches = drained(graph, [x, y])
    assert len(batches) == 2 and batches[1][0].tolist() == [[i, i + 1] for i in range(5, 10)]
    assert batches[1][1].dtype == tw.int32


def example(label: int, values: list[float]) -> bytes:
    """A tf.train.Example, byte by byte."""
    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    floats = field(2, field(1, np.array(values, "<f4").tobytes()))
    ints = field(3, field(1, bytes([label])))
    entries = field(1, field(1, b"x") + field(2, floats)) + field(1, field(1, b"label") + field(2, ints))
    return field(1, entries)


def test_tfrecords_and_examples(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").write_bytes(b"".join(framed(example(n, [n, n + 0.5])) for n in range(9)))
    graph = tw.Graph()
    with graph.as_default():
        files = tw.train.string_input_producer(tmp_path / "a.tfrecord", num_epochs=1)
        _, records = tw.io.TFRecordReader().read_up_to(files, 4)
        features = {"x": tw.io.FixedFeature((2,), tw.float32), "label": tw.io.FixedFeature((), tw.int32)}
        found = tw.io.parse_example(records, features)
        total = tw.sum(found["x"], axis=1)
    batches = drained(graph, [found["label"], total])
    assert [labels.tolist() for labels, _ in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert batches[1][1].tolist() == [8.5, 10.5, 12.5, 14.5]


def test_a_damaged_file_stops_everything_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a\n1\n2\nthree\n")
    graph = tw.Graph()
    with graph.as_default():
        files = tw.train.string_input_producer([tmp_path / "bad.csv"])
        batch = tw.train.batch(tw.io.CSVReader({"a": tw.int32}).read(files), 2)
    with pytest.raises(tw.StepError, match=r"test_input_pipelines\.py:\d+.*bad\.csv:4: column 'a': 'three' is not of"):
        drained(graph, batch)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    graph = tw.Graph()
    with graph.as_default():
        files = tw.train.string_input_producer([tmp_path / "*.csv"])
        batch = tw.train.batch(tw.io.CSVReader({"a": tw.int32}).read(files), 2)
    with pytest.raises(tw.StepError, match=r"no file fits .*\*\.csv"):
        drained(graph, batch)


def test_runners_stop_while_their_queue_is_full() -> None:
    graph = tw.Graph()
    with graph.as_default():
        queue = tw.FIFOQueue(2, [tw.int32], shapes=[()])
        tw.train.add_queue_runner(tw.train.QueueRunner(queue, [queue.enqueue(1)] * 3))
        get = queue.dequeue()
    with tw.Session(graph) as session:
        coordinator = tw.train.Coordinator()
        threads = tw.train.start_queue_runners(session, coordinator)
        assert [int(session.run(get)) for _ in range(20)] == [1] * 20
        coordinator.request_stop()
        coordinator.join(threads, stop_grace_period=30)
    assert not any(t.is_alive() for t in threads)


def test_input_and_computation_overlap(tmp_path: Path) -> None:
    """While a step computes, the next batch is read: the trace shows decoding within the time of a training step."""
    for number in range(40):
        np.full(1 << 18, number, np.float32).tofile(tmp_path / f"{number:02}.bin")
    graph = tw.Graph()
    with graph.as_default():
        files = tw.train.string_input_producer(tmp_path / "*.bin", num_epochs=1, shuffle=False)
        _, content = tw.io.WholeFileReader().read(files)
        numbers = tw.reshape(tw.io.decode_raw(content, tw.float32, shape=(1 << 18,)), (512, 512))
        x = tw.train.prefetch(numbers, capacity=4)
        y = tw.sum(x @ x @ x)
    with trace_steps() as recorded:
        results = drained(graph, y)
    np.testing.assert_allclose([float(r) for r in results], [n**3 * 512.0**4 for n in range(40)], rtol=1e-4)
    ran = [e for e in recorded.events if isinstance(e, Ran)]
    reading = [(e.begin, e.end) for e in ran if e.op in ("reader_read", "decode_raw")]
    computing = [(e.begin, e.end) for e in ran if e.op == "cluster"]
    overlaps = sum(any(b < end and begin < e for b, e in reading) for begin, end in computing)
    assert len(computing) >= 40 and overlaps >= 10, f"{overlaps} of {len(computing)} overlap"
    lengths = [e.value for e in recorded.events if type(e).__name__ == "Counted" and "prefetch" in e.name]
    assert lengths and max(lengths) <= 4
