"""A process that saves checkpoints until it is killed, or until the disk is full.

    python checkpoint_writer.py FOLDER [BYTES]

Checkpoint n is full of the number n. After each one that is on disk it prints n. With BYTES no file may grow larger
than that from the third checkpoint on, which the system enforces, and it prints the error that it got.
"""

import resource
import signal
import sys

import numpy as np

import thalweg as tw
from thalweg.frontend.train import CheckpointManager, KeepLast


def main(folder: str, limit: int | None) -> None:
    tree = {name: tw.Variable(np.zeros(20_000, np.float32), name=name) for name in ("a", "b", "c")}
    manager = CheckpointManager(folder, tree, keep=[KeepLast(2)], files=2)
    for number in range(1, 10_000):
        if limit is not None and number == 3:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        for variable in tree.values():
            variable.assign(np.full(20_000, number, np.float32))
        try:
            manager.save(number)
            manager.wait()
        except tw.CheckpointError as error:
            print(error, flush=True)
            return
        print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
