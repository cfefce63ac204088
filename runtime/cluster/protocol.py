"""How a master and its tasks speak: calls with answers, aborts, and errors that keep their kind.

    kind      step      key      note, values
    call      number    method   the arguments                        answered by one of the two below
    done      number             the result
    failed    number             {"kind": …, "text": …}               an exception
    abort     step               why
    tensor    step      edge     the value                            from task to task
    lost                                                              a task's address: who sends this cannot reach it
    ping                                                              is acknowledged by the transport, no more
"""

from __future__ import annotations

from typing import Any, Final

from thalweg.dialects import diagnostics
from thalweg.dialects.diagnostics import StepError, ThalwegError

CALL: Final = "call"
DONE: Final = "done"
FAILED: Final = "failed"
ABORT: Final = "abort"
TENSOR: Final = "tensor"
LOST: Final = "lost"
PING: Final = "ping"


def packed(error: BaseException) -> dict[str, str]:
    """An exception as plain data."""
    return {"kind": type(error).__name__, "text": str(error)}


def unpacked(note: dict[str, Any], task: str) -> ThalwegError:
    """The exception of a task: of the same class if it is one of ours, else a StepError that names the class.

    Example:
        >>> unpacked({"kind": "OutOfRangeError", "text": "queue 'q' is closed."}, "/job:worker/task:1")
        OutOfRangeError("queue 'q' is closed. [/job:worker/task:1]")
    """
    text = f"{note['text']} [{task}]"
    kind = getattr(diagnostics, note["kind"], None)
    if isinstance(kind, type) and issubclass(kind, ThalwegError) and _takes_a_message(kind):
        return kind(text)
    return StepError(f"{note['kind']}: {text}")


def _takes_a_message(kind: type[ThalwegError]) -> bool:
    return not any("__init__" in base.__dict__ for base in kind.__mro__ if issubclass(base, ThalwegError))
