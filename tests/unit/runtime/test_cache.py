"""The disk cache: races, damage, bounds, unusable folders."""

import multiprocessing
import os
from pathlib import Path

import pytest

from thalweg.runtime.cache import DiskCache, digest


def test_round_trip_and_miss(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit=1000)
    assert cache.get(digest("a")) is None
    cache.put(digest("a"), b"payload")
    assert DiskCache(tmp_path, limit=1000).get(digest("a")) == b"payload"


def test_boundaries_between_parts_count() -> None:
    assert digest("ab", "c") != digest("a", "bc")


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_a_damaged_entry_is_a_miss_and_goes_away(tmp_path: Path, damage: str) -> None:
    cache, key = DiskCache(tmp_path, limit=1000), digest("a")
    cache.put(key, b"payload")
    (path,) = tmp_path.glob("??/*")
    data = path.read_bytes()
    path.write_bytes({"truncate": data[:-1], "flip": data[:-1] + b"?", "empty": b"", "foreign": b"ELF" + data}[damage])
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert cache.get(key) is None
    assert not path.exists()
    cache.put(key, b"payload")
    assert cache.get(key) == b"payload"


def test_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit=400)
    for name in "abc":
        cache.put(digest(name), bytes(80))
        path = tmp_path / digest(name)[:2] / digest(name)
        os.utime(path, (ord(name), ord(name)))
    assert cache.get(digest("a")) is not None  # used just now
    cache.put(digest("d"), bytes(80))
    assert [cache.get(digest(n)) is not None for n in "abcd"] == [True, False, True, True]


def test_an_unusable_folder_is_told_once(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache = DiskCache(blocked, limit=1000)
    with pytest.warns(RuntimeWarning, match="THALWEG_CACHE_DIR"):
        cache.put(digest("a"), b"x")
    assert cache.get(digest("a")) is None


def _write(folder: str, count: int) -> None:
    cache = DiskCache(Path(folder), limit=10**6)
    for i in range(count):
        cache.put(digest("shared"), bytes([i % 256]) * 5000)
        found = cache.get(digest("shared"))
        assert found is not None and len(set(found)) == 1 and len(found) == 5000


@pytest.mark.timeout(60)
def test_concurrent_writers_never_show_half_an_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(str(tmp_path), 50)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    assert [w.exitcode for w in workers] == [0, 0, 0]
