"""`thalweg bench`: hands over to the repository's benchmarks, or says where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Thalweg = Callable[..., Any]


def test_outside_the_repository(thalweg: Thalweg) -> None:
    result = thalweg("bench")
    assert result.exit_code == 1
    assert "Clone the repository" in result.stderr


def test_options_are_handed_over(thalweg: Thalweg, folder: Path) -> None:
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__main__.py").write_text(
        "import pathlib, sys\npathlib.Path('seen').write_text(' '.join(sys.argv[1:]))\nsys.exit(7)\n"
    )
    result = thalweg("bench", "--workloads", "mlp", "--against", "jax", "--threads", "1")
    assert result.exit_code == 7
    assert (folder / "seen").read_text() == "--workloads mlp --against jax --threads 1"
