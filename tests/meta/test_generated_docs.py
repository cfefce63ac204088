"""The generated pages of docs/ are what the tables give today."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg.tools.generate_docs import PAGES

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"
