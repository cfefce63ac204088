"""Test files have names of their own: pytest imports them by base name."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_no_two_test_files_share_a_name() -> None:
    counts = Counter(path.name for path in ROOT.rglob("*.py") if path.name not in ("conftest.py", "__init__.py"))
    assert [name for name, count in counts.items() if count > 1] == []
