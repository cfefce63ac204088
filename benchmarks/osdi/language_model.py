"""An LSTM language model with full and with sampled softmax, the paper's figure 9: words a second by parameter tasks.

    python -m benchmarks.osdi.language_model [--ps 1,2,4] [--workers 2] [--vocabulary 10000] [--width 128]

The embedding and the softmax's weights lie in shards on the parameter tasks, which do the softmax's multiplication and
its gradient; workers run the LSTM. Text is synthetic, words drawn by Zipf's law. Each worker trains asynchronously in a
thread of its own. The tasks share this machine's processors: the paper's machines had one each, so more of them help
there, and here only as far as there are processors.
"""

from __future__ import annotations

import argparse
import threading
import time
from typing import Any

import numpy as np

import thalweg as tw
from benchmarks.osdi.paper import LANGUAGE_MODEL
from benchmarks.osdi.report import plot, show, write

STEPS, BATCH, SAMPLES = 10, 16, 256


def text(vocabulary: int, words: int) -> np.ndarray:
    """Words by Zipf's law, the most common one first."""
    ranks = np.random.default_rng(0).zipf(1.3, 4 * words)
    return (ranks[ranks <= vocabulary][:words] - 1).astype(np.int32)


Built = tuple[tw.Graph, list[Any], list[Any]]


def build(ps: int, workers: int, vocabulary: int, width: int, sampled: bool) -> Built:
    """The graph; for each worker its placeholders and its training step."""
    graph = tw.Graph()
    feeds, steps = [], []
    with graph.as_default():
        embedding = tw.nn.ShardedEmbedding(vocabulary, width, shards=ps, devices="/job:ps")
        softmax = tw.nn.ShardedSoftmax(width, vocabulary, shards=ps, devices="/job:ps")
        with tw.device("/job:ps/task:0"):
            cell = tw.nn.LSTM(width, width, np.random.default_rng(0))
        variables = [*embedding.trainable, *softmax.trainable, *cell.trainable]
        optimizer = tw.optim.SGD(0.1)
        for worker in range(workers):
            with tw.device(f"/job:worker/task:{worker}"):
                words = tw.placeholder(tw.int32, (BATCH, STEPS + 1), name=f"words_{worker}")
                key = tw.placeholder(tw.uint32, (2,), name=f"key_{worker}")

                def loss(words: Any = words, key: Any = key) -> Any:
                    hidden = tw.reshape(cell(embedding(words[:, :-1])), (-1, width))
                    labels = tw.reshape(words[:, 1:], (-1,))
                    if sampled:
                        return tw.mean(softmax.sampled_loss(hidden, labels, key, samples=SAMPLES))
                    return tw.mean(softmax.loss(hidden, labels))

                value, gradients = tw.value_and_grad(loss, wrt=variables)()
                train = optimizer.apply(zip(gradients, variables, strict=True))
            feeds.append((words, key))
            steps.append((value, train))
    return graph, feeds, steps


def words_per_second(cluster: tw.Cluster, built: Built, vocabulary: int, seconds: float) -> float:
    """How many words all workers train on in a second."""
    graph, feeds, steps = built
    stop, counts = threading.Event(), [0] * len(steps)
    data = text(vocabulary, 50_000)

    def feed(number: int, rng: np.random.Generator) -> dict[Any, Any]:
        starts = rng.integers(0, len(data) - STEPS - 1, BATCH)
        words, key = feeds[number]
        rows = np.stack([data[s : s + STEPS + 1] for s in starts])
        return {words: rows, key: rng.integers(0, 1 << 32, 2, dtype=np.uint32)}

    def work(session: tw.Session, number: int) -> None:
        rng = np.random.default_rng(number)
        while not stop.is_set():
            session.run(steps[number], feeds=feed(number, rng))
            counts[number] += 1

    with tw.Session(graph, target=cluster) as session:
        for number in range(len(steps)):  # compiles it
            session.run(steps[number], feeds=feed(number, np.random.default_rng(99)))
        threads = [threading.Thread(target=work, args=(session, k), daemon=True) for k in range(len(steps))]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        stop.set()
        for thread in threads:
            thread.join(60)
        elapsed = time.perf_counter() - begin
    return sum(counts) * BATCH * STEPS / elapsed


def main() -> None:
    """Measure, print beside the paper's figure, write, plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.osdi.language_model", description=__doc__)
    parser.add_argument("--ps", default="1,2,4", help="numbers of parameter tasks")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each point")
    options = parser.parse_args()
    found: dict[str, dict[Any, float]] = {}
    for sampled in (False, True):
        name = f"{'sampled' if sampled else 'full'}, {options.workers} workers"
        for ps in (int(n) for n in options.ps.split(",")):
            built = build(ps, options.workers, options.vocabulary, options.width, sampled)
            with tw.Cluster(ps=ps, workers=options.workers) as cluster:
                rate = words_per_second(cluster, built, options.vocabulary, options.seconds)
            found.setdefault(name, {})[ps] = rate
            print(f"{name}, {ps} parameter tasks: {rate:,.0f} words/s")
    show("Language model by parameter tasks", "words/s", found, LANGUAGE_MODEL)
    write("language_model", {"words_per_second": found, "vocabulary": options.vocabulary, "width": options.width})
    plot("language_model", "Language model", ("parameter tasks", "words/s"), found, LANGUAGE_MODEL, log="xy")


if __name__ == "__main__":
    main()
