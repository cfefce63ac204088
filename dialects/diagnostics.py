"""What goes wrong, and how it is said.

    ThalwegError
      +- TypeInferenceError   operands or attributes do not fit an op (also ValueError)
      +- TracingError         a function does something that cannot be traced (also TypeError)
      |    +- LeakedTensorError   a traced tensor outlived its trace
      +- VerificationError    a module breaks a rule of the dialect
      +- PassError            a pass cannot do its work; unknown passes and options
      +- LoweringError        an op has no lowering to a backend
      +- ExecutionError       a compiled program was called with what it cannot take
      +- GraphError           a graph or session does not have what it is asked for (also ValueError)
      +- StepError            an op of a step failed while the step ran
           +- CancelledError       the step was given up: another op or task failed first, or somebody closed it
           +- DeadlineError        the step took longer than it was given (also TimeoutError)
           +- OutOfRangeError      nothing is left to read: a closed and empty queue, the end of the files
           +- UnavailableError     a task of the cluster does not answer
           +- UninitialisedError   a variable is read before it has a value
      +- DeviceError          a GPU or its driver failed
           +- DeviceMemoryError    its memory is used up (also MemoryError)
      +- CheckpointError      a checkpoint is missing, damaged, or does not fit (also ValueError)

Every message says what is wrong, where in the *user's* file, what was seen, and what to do:

    model.py:42: in loss(): matmul: inner dimensions differ: lhs f32[8,16] has 16, rhs f32[32,4] has 32.
    Transpose rhs or reshape lhs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ThalwegError(Exception):
    """Base of all errors that Thalweg raises on purpose."""


class TypeInferenceError(ThalwegError, ValueError):
    """Operands or attributes do not fit an op."""


class TracingError(ThalwegError, TypeError):
    """A function does something that cannot be traced."""


class LeakedTensorError(TracingError):
    """A traced tensor outlived the trace that created it."""


class VerificationError(ThalwegError, ValueError):
    """A module breaks a rule of the dialect."""


class PassError(ThalwegError):
    """A pass cannot do its work, or is not known."""


class LoweringError(ThalwegError, NotImplementedError):
    """An op has no lowering to a backend."""


class ExecutionError(ThalwegError, TypeError):
    """A compiled program was called with what it cannot take."""


class GraphError(ThalwegError, ValueError):
    """A graph or session does not have what it is asked for, or is given what it cannot take."""


class StepError(ThalwegError):
    """An op of a step failed while the step ran."""


class CancelledError(StepError):
    """The step was given up: another op or task failed first, or somebody closed what it waited for."""


class DeadlineError(StepError, TimeoutError):
    """The step took longer than it was given."""


class OutOfRangeError(StepError):
    """Nothing is left to read: a queue that is closed and empty, the end of the files."""


class UnavailableError(StepError):
    """A task of the cluster does not answer."""


class UninitialisedError(StepError):
    """A variable is read before it has a value."""


class DeviceError(ThalwegError):
    """A GPU or its driver failed."""


class DeviceMemoryError(DeviceError, MemoryError):
    """The memory of a GPU is used up."""


class CheckpointError(ThalwegError, ValueError):
    """A checkpoint is missing, damaged, or does not fit what is to be restored."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest known name, or the empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


class MissingExtraError(ThalwegError, ImportError):
    """A part of Thalweg needs a package that is not installed.

    Args:
        what: needs it.
        extra: installs it.
    """

    def __init__(self, what: str, extra: str = "") -> None:
        install = f" need a package that is not installed. Run: pip install 'thalweg[{extra}]'" if extra else ""
        super().__init__(what + install)  # without an extra it is the whole message: one that was told before


class ExportError(ThalwegError):
    """A program cannot be exported as asked."""


class BundleError(ThalwegError):
    """An exported model cannot be loaded, or was called with what it does not take."""
