"""TPUs are found on the PCI bus, without their library."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from thalweg.runtime.pjrt import chips


@pytest.mark.parametrize(
    ("devices", "count"),
    [((), 0), ((("0x1ae0", "0x0063"),) * 4, 4), ((("0x1ae0", "0x0042"),), 0), ((("0x10de", "0x0063"),), 0)],
    ids=["none", "four v5e", "a network card of Google's", "another maker's"],
)
def test_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: tuple[tuple[str, str], ...], count: int
) -> None:
    monkeypatch.setattr(chips, "find_spec", lambda name: object())
    for number, (vendor, device) in enumerate(devices):
        folder = tmp_path / f"0000:00:0{number}.0"
        folder.mkdir()
        (folder / "vendor").write_text(vendor + "\n")
        (folder / "device").write_text(device + "\n")
    assert chips.tpus(tmp_path) == count
    assert "libtpu" not in sys.modules


def test_chips_without_the_packages_are_no_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "vendor").write_text("0x1ae0")
    (tmp_path / "a" / "device").write_text("0x0063")
    monkeypatch.setattr(chips, "find_spec", lambda name: None if name == "libtpu" else object())
    assert chips.tpus(tmp_path) == 0
