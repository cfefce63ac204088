"""The tutorial is a program: every Python block of a chapter runs, in order, in one namespace."""

import itertools
import re
from pathlib import Path

import pytest

CHAPTERS = sorted(
    (Path(__file__).parents[2] / "docs" / "tutorial").glob("*.md"), key=lambda page: int(page.name.partition("-")[0])
)


def blocks(text: str) -> list[tuple[int, str]]:
    """The Python blocks of a page with the number of their first line."""
    return [(text[: m.start(1)].count("\n"), m[1]) for m in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)]


def test_chapters_are_numbered_and_each_leads_to_the_next():
    numbers = [int(chapter.name.partition("-")[0]) for chapter in CHAPTERS]
    assert numbers[0] == 1 and numbers == sorted(set(numbers))
    for chapter, following in itertools.pairwise(CHAPTERS):
        assert f"({following.name})" in chapter.read_text()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.stem)
def test_the_programs_of_a_chapter_run(chapter):
    namespace = {"__name__": "tutorial"}
    found = blocks(chapter.read_text())
    if "tw.Cluster(" in chapter.read_text():
        pytest.importorskip("ray")
    assert len(found) >= 4
    for line, source in found:
        # Empty lines in front keep the numbers of the lines in tracebacks, and in traced programs, those of the page.
        exec(compile("\n" * line + source, str(chapter), "exec"), namespace)
