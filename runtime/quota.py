"""How many processors the kernel's control groups leave to this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def quota(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Processors that this process's groups, and those around them, may keep busy; None where nothing limits them.

    Args:
        groups: where control groups are mounted: version 2, or version 1 with a folder for each controller.
        own: the process's groups, a line each: `0::/a/b` (version 2), `4:cpu,cpuacct:/a/b` (version 1).
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines or ["0::/"]):
        if controllers and "cpu" not in controllers.split(","):
            continue
        # A container sees its own group as the root, whatever its path is outside.
        for folder in _upwards(groups if not controllers else groups / "cpu", path):
            found += _limit(folder)
    return min(found, default=None)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """A group's folder and those around it, to the root."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:count])


def _limit(folder: Path) -> list[float]:
    """The limit of one group, if it has any."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            allowed, period = " ".join((folder / name).read_text() for name in names).split()
            if allowed not in ("max", "-1"):
                return [int(allowed) / int(period)]
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return []
