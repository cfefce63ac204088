"""Summaries: what a run tells about itself, for TensorBoard.

    tw.summary.scalar("loss", loss); tw.summary.histogram("weights", w)
    everything = tw.summary.merge_all()
    with tw.summary.FileWriter("logs", graph) as writer:
        for step in range(1000):
            _, told = session.run([train, everything])
            writer.add(told, step)

Needs the extra `[tensorboard]`.
"""

from thalweg.frontend.summary.ops import histogram, image, merge, merge_all, scalar, text
from thalweg.frontend.summary.writer import FileWriter

__all__ = ["FileWriter", "histogram", "image", "merge", "merge_all", "scalar", "text"]
