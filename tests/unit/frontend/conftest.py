"""Tests of the frontend run on the reference interpreter, which needs no code generation."""

from collections.abc import Iterator

import pytest

from thalweg.backends.reference.compiler import ReferenceCompiler
from thalweg.frontend import program


@pytest.fixture(autouse=True)
def reference_compiler() -> Iterator[None]:
    """Install the reference compiler for a test, then what was there before."""
    before = program.installed()
    program.install(ReferenceCompiler)
    yield
    program.install(before)
