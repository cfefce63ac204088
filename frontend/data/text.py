"""Text for language models: the sources of Python's standard library, which every machine has."""

from __future__ import annotations

import string
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Tokens = np.ndarray[Any, Any]

# The printable characters of ASCII that sources use, and one more for all others.
_ALPHABET = "\n" + string.digits + string.ascii_letters + string.punctuation + " "
_OTHER = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Text:
    """A text as numbers. `train` and `test` come from different files: i32[n], each an index into `alphabet`."""

    train: Tokens
    test: Tokens
    alphabet: str = _ALPHABET + _OTHER

    def encode(self, text: str) -> Tokens:
        """i32[len(text)]; characters outside the alphabet become its last one."""
        known = {character: index for index, character in enumerate(self.alphabet)}
        return np.array([known.get(c, len(self.alphabet) - 1) for c in text], np.int32)

    def decode(self, tokens: Tokens) -> str:
        """The text of i32[n] tokens."""
        return "".join(self.alphabet[int(t)] for t in tokens)


def text(*, characters: int = 1_000_000, test: float = 0.1) -> Text:
    """The standard library's top-level modules as characters, a tenth of the files held out.

    Args:
        characters: how many characters to take in all, at most.
        test: fraction of the files that are held out; every 1/test-th file in alphabetical order.

    Raises:
        FileNotFoundError: this Python has no sources of its library.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"))
    if not files:
        raise FileNotFoundError(f"tw.data.text: no Python sources in {folder}, where this Python's library should be.")
    every = max(round(1 / test), 2)
    parts: tuple[list[str], list[str]] = ([], [])
    room = [round(characters * (1 - test)), round(characters * test)]
    for number, file in enumerate(files):
        which = int(number % every == every - 1)
        content = file.read_text(encoding="utf-8", errors="replace")[: room[which]]
        room[which] -= len(content)
        parts[which].append(content)
    empty = np.zeros(0, np.int32)
    codec = Text(empty, empty)
    return Text(codec.encode("".join(parts[0])), codec.encode("".join(parts[1])))


def windows(tokens: Tokens, length: int) -> tuple[Tokens, Tokens]:
    """Cut a text in pieces for next-token prediction: inputs and targets, both [n, length], the targets one later.

    Raises:
        ValueError: the text is shorter than one piece.
    """
    count = (len(tokens) - 1) // length
    if length < 1 or count < 1:
        raise ValueError(f"windows: {len(tokens)} tokens make no piece of {length}. Take a smaller length.")
    whole = count * length
    return tokens[:whole].reshape(count, length), tokens[1 : whole + 1].reshape(count, length)
