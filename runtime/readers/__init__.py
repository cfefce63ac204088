"""Reading files on the task that needs them: records from a queue of file names, and what decodes records."""

from thalweg.runtime.readers.reader import Reader

__all__ = ["Reader"]
