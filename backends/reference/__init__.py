"""The reference backend: NumPy runs a `tw` module op by op. Slow, plain, and what every other backend is held to."""

from thalweg.backends.reference.interpreter import Interpreter, Observer, run

__all__ = ["Interpreter", "Observer", "run"]
