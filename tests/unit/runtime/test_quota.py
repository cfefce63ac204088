"""Limits on processors, as both versions of control groups tell them."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg.runtime import config
from thalweg.runtime.quota import quota

CASES = {
    "none": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "version 2": ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
    "a group around it": ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1.5),
    "the least": ("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "300000 100000\n"}, 3.0),
    "a container": ("0::/../c\n", {"cpu.max": "200000 100000\n"}, 2.0),
    "version 1": (
        "5:memory:/a\n4:cpu,cpuacct:/a\n0::/\n",
        {"cpu/a/cpu.cfs_quota_us": "50000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
        0.5,
    ),
    "version 1, none": ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    "nothing is mounted": ("", {}, None),
}


@pytest.mark.parametrize("name", CASES)
def test_quota(name: str, tmp_path: Path) -> None:
    own, files, wanted = CASES[name]
    (tmp_path / "own").write_text(own)
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    assert quota(tmp_path, tmp_path / "own") == wanted


@pytest.mark.parametrize(("allowed", "threads"), [(None, 8), (0.5, 1), (2.5, 2), (64.0, 8)])
def test_threads_are_those_that_may_run(allowed: float | None, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "quota", lambda: allowed)
    monkeypatch.setattr(config.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert config.Config().thread_count == threads
    assert config.Config(threads=3).thread_count == 3
