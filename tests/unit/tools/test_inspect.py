"""`thalweg inspect`: the dialect, programs, pages, costs, memory, differences."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

Thalweg = Callable[..., Any]


class Page(HTMLParser):
    """Collects panes and, for each pane, which lines of the source its lines are tied to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.titles: list[str] = []
        self.ties: list[set[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert "src" not in given and "href" not in given, "the page must load nothing"
        if tag not in ("meta", "input"):
            self.open.append(tag)
        if tag == "section":
            self.ties.append(set())
        if "data-at" in given:
            self.ties[-1].update(str(given["data-at"]).split())

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


def test_ops_as_a_list_and_one_by_one(thalweg: Thalweg) -> None:
    assert "dot_general" in thalweg("inspect", "ops").stdout
    one = thalweg("inspect", "ops", "dot_general", "tw.exp").stdout
    assert "tw.dot_general(lhs, rhs)" in one
    assert "lhs_contract: ints" in one
    assert "tw.exp(x)" in one
    unknown = thalweg("inspect", "ops", "dot_genral")
    assert (unknown.exit_code, unknown.stderr) == (
        1, "error: unknown op 'dot_genral'; did you mean 'dot_general'?\n",
    )


def test_passes(thalweg: Thalweg) -> None:
    assert "differentiate" in thalweg("inspect", "passes").stdout


def test_a_program_in_compact_form(thalweg: Thalweg) -> None:
    text = thalweg("inspect", "model.py:step").stdout
    assert text.startswith("func main(%arg0: f32[4,3]) -> f32[]:")
    assert "tanh" in text
    assert "# model.py:23" in text
    assert "linalg.generic" in thalweg("inspect", "tw.mlir", "--stage", "linalg").stdout
    assert "no compact form of 'asm'" in thalweg("inspect", "tw.mlir", "--stage", "asm").stderr


def test_the_page_ties_every_stage_to_the_source(thalweg: Thalweg, folder: Path) -> None:
    result = thalweg("inspect", "model.py:step", "--html", "stages.html")
    assert result.exit_code == 0, result.stderr
    page = Page((folder / "stages.html").read_text())
    assert page.titles == ["model.py", "tw", "tw-optimized", "stablehlo", "linalg", "kernels", "llvm", "asm"]
    assert page.open == []
    source = (folder / "stages.html").read_text().partition("<h2>model.py</h2>")[2]
    loss_line = re.search(r'data-at="(\d+)"><i class="number">  23</i>', source)
    assert loss_line is not None
    for title, ties in zip(page.titles[:6], page.ties, strict=False):
        assert loss_line[1] in ties, title


def test_the_page_of_a_module_without_source(thalweg: Thalweg, folder: Path) -> None:
    assert thalweg("inspect", "stablehlo.mlir", "--html", "page.html").exit_code == 0
    assert Page((folder / "page.html").read_text()).titles[-5:] == ["stablehlo", "linalg", "kernels", "llvm", "asm"]


def test_cost(thalweg: Thalweg) -> None:
    text = thalweg("inspect", "model.py:f", "--shapes", "f32[8,16],f32[16,4]", "--cost").stdout
    first = text.splitlines()[2].split()
    assert (first[0], first[-2]) == ("1,024", "dot_general"), "the most expensive first: 2 x 8 x 16 x 4"
    assert [line.split()[-1] for line in text.splitlines()].count("total") == 2
    (kernel,) = (line.split() for line in text.splitlines() if "k0_" in line)
    assert kernel[:4] == ["1,056", "896", "1.18", "1"], "a product and a tanh; 4 x (8 x 16 + 16 x 4 + 8 x 4) bytes"
    assert "GFLOP/s in f32" in text
    lowered = thalweg("inspect", "stablehlo.mlir", "--cost").stdout
    assert "k0_" in lowered and "tw-optimized" not in lowered


def test_memory(thalweg: Thalweg) -> None:
    text = thalweg("inspect", "model.py:step", "--memory").stdout
    assert "variable cli_w" in text
    assert "result 0" in text
    assert "arena: " in text
    assert "packed" not in text, "the step writes its only variable"


def test_memory_of_packed_weights(thalweg: Thalweg, folder: Path) -> None:
    (folder / "wide.py").write_text(
        "import numpy as np, thalweg as tw\n"
        "w = tw.Variable(np.ones((64, 70), np.float32), name='cli_wide')\n"
        "infer = tw.function(lambda x: x @ w, signature=[tw.spec((5, 64), tw.float32)])\n"
    )
    text = thalweg("inspect", "wide.py:infer", "--memory").stdout
    assert "variable cli_wide" in text and "packed 0" in text and "\npacked: " in text


def test_differences(thalweg: Thalweg, folder: Path) -> None:
    renamed = (folder / "tw.mlir").read_text().replace("%0", "%a").replace("%1", "%b")
    (folder / "renamed.mlir").write_text(renamed)
    (folder / "changed.mlir").write_text(renamed.replace("tw.neg", "tw.abs"))
    same = thalweg("inspect", "diff", "tw.mlir", "renamed.mlir")
    assert (same.exit_code, same.stdout) == (0, "equal but for names\n")
    differs = thalweg("inspect", "diff", "tw.mlir", "changed.mlir")
    assert differs.exit_code == 1
    assert differs.stdout == "-   %1 = neg %0 : f32[3]\n+   %1 = abs %0 : f32[3]\n"
    assert "tanh" in thalweg("inspect", "diff", "tw.mlir", "changed.mlir", "--all").stdout


def test_wrong_usage(thalweg: Thalweg) -> None:
    assert thalweg("inspect").exit_code == 2
    assert thalweg("inspect", "diff", "tw.mlir").exit_code == 2
    assert thalweg("inspect", "tw.mlir", "tw.mlir").exit_code == 2


def test_graph_shows_devices_and_what_they_send(thalweg: Thalweg) -> None:
    devices = "/job:ps/task:0/cpu:0;/job:worker/task:0/cpu:0"
    result = thalweg("inspect", "graph", "model.py:halves", "--devices", devices)
    assert result.exit_code == 0, result.stderr
    lines = [line.strip("│├└─ ") for line in result.stdout.splitlines()]
    assert lines[0] == "2 devices, 1 tensor sent, 12 bytes"
    assert lines[1] == "/job:ps/task:0/device:CPU:0"
    assert lines[2].startswith("cluster cluster/0: 1 exp  # model.py:")
    assert lines[3].startswith("send -> /job:worker/task:0/device:CPU:0 f32[3], 12 bytes  # model.py:")
    assert lines[4] == "/job:worker/task:0/device:CPU:0"
    assert [line.split()[0] for line in lines[5:]] == ["recv", "cluster"]


def test_graph_takes_one_program(thalweg: Thalweg) -> None:
    assert thalweg("inspect", "graph").exit_code == 2
