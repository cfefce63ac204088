"""Several threads trace, compile, run and drop programs at once: nothing crashes, nothing mixes.

In a process of its own, because what goes wrong here takes the process with it.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import threading, thalweg as tw
wrong = []

def work(thread):
    for i in range(6):
        n = 2 + i + 10 * thread
        f = tw.function(tw.grad(lambda x: tw.sum(tw.scan(lambda c, r: (tw.tanh(c * r), c), x[0], x)[0])))
        x = tw.ones((3, n))
        if f(x).shape != (3, n) or abs(float(tw.softmax(tw.ones((n,)))[0]) - 1 / n) > 1e-6:
            wrong.append(n)
        if tw.grad(lambda x: tw.sum(x**2))(tw.ones((n,))).tolist() != [2] * n:
            wrong.append(-n)

threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print("wrong:", wrong)
"""


@pytest.mark.timeout(300)
def test_threads_trace_and_compile_at_once() -> None:
    environment = {**os.environ, "THALWEG_CACHE": "0", "PYTHONPATH": ":".join(p for p in sys.path if p)}
    command = [sys.executable, "-X", "faulthandler", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "wrong: []"
