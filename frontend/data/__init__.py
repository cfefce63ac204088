"""Data: batches of arrays with a progress bar, and small real data sets that need no download."""

from thalweg.frontend.data.batches import Batches, batches
from thalweg.frontend.data.datasets import breast_cancer, digits, mnist, split
from thalweg.frontend.data.text import Text, text, windows

__all__ = ["Batches", "Text", "batches", "breast_cancer", "digits", "mnist", "split", "text", "windows"]
