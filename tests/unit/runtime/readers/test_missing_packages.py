"""Without the packages of the extra: an error that names it, eagerly and in a step."""

from __future__ import annotations

import sys

import pytest

import thalweg as tw
from thalweg.dialects.diagnostics import MissingExtraError


def test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"images need a package .* pip install 'thalweg\[pipeline\]'"):
        tw.io.decode_image(b"x")
    graph = tw.Graph()
    with graph.as_default():
        image = tw.io.decode_image(b"x", size=(2, 2))
    told = r"test_missing_packages\.py:\d+.*thalweg\["
    with tw.Session(graph) as session, pytest.raises(MissingExtraError, match=told):
        session.run(image)


def test_parquet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    files = tw.FIFOQueue(1, tw.string, shapes=())
    files.enqueue("a.parquet")
    with pytest.raises(MissingExtraError, match="Parquet files need a package"):
        tw.io.ParquetReader({"x": tw.int32}).read(files, timeout=30)
