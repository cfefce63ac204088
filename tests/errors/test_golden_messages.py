"""Golden error messages: each file in cases/ is a small program that goes wrong, and ends with what it must say.

python -m tests.errors.test_golden_messages         # rewrites the expected messages; review the difference
"""

from __future__ import annotations

import runpy
import textwrap
from pathlib import Path

import pytest

CASES = sorted((Path(__file__).parent / "cases").glob("*.py"))
MARK = "\n# -> "


def message_of(path: Path) -> str:
    """What the program raises, with the file's name in place of its path."""
    try:
        runpy.run_path(str(path))
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace(str(path), path.name)
    return "nothing"


@pytest.mark.parametrize("path", CASES, ids=[p.stem for p in CASES])
def test_message(path: Path) -> None:
    expected = path.read_text().partition(MARK)[2].replace("\n#", "\n")
    assert message_of(path).split() == expected.split()


@pytest.mark.parametrize("path", CASES, ids=[p.stem for p in CASES])
def test_every_message_names_the_users_line(path: Path) -> None:
    assert f" {path.name}:" in path.read_text().partition(MARK)[2], "an error must say where in the user's file"


def rewrite() -> None:
    """Write the messages of now into the cases."""
    for path in CASES:
        program = path.read_text().partition(MARK)[0].rstrip("\n") + "\n"
        path.write_text(program)  # line numbers are those without the message
        wrapped = textwrap.wrap(message_of(path), 112, break_long_words=False, break_on_hyphens=False)
        path.write_text(program + MARK + "\n#    ".join(wrapped) + "\n")


if __name__ == "__main__":
    rewrite()
