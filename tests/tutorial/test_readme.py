"""The README's program over a cluster runs as it is printed."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_the_program_over_tasks_runs(capsys):
    pytest.importorskip("ray")
    (program,) = [
        b for b in re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S) if "tw.Cluster(" in b
    ]
    exec(compile(program, str(README), "exec"), {"__name__": "readme"})
    assert float(capsys.readouterr().out.split()[-1]) < 1e-2, "the loss has come down"
