"""Devices by name: `/device:CPU:0`, or in full `/job:worker/task:1/device:CPU:0`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from thalweg.dialects.location import user_frame


@dataclass(frozen=True)
class Device:
    """A device; prints as its name."""

    kind: str = "CPU"
    index: int = 0
    job: str | None = None
    task: int | None = None

    def __str__(self) -> str:
        job = f"/job:{self.job}" if self.job is not None else ""
        task = f"/task:{self.task}" if self.task is not None else ""
        return f"{job}{task}/device:{self.kind}:{self.index}"

    def __repr__(self) -> str:
        return f"Device('{self}')"


CPU = Device()

_NAME = re.compile(
    r"(?:/job:(?P<job>\w+))?(?:/(?:task|replica):(?P<task>\d+))?(?:/?(?:device:)?(?P<kind>[A-Za-z]+)(?::(?P<index>\d+))?)?"
)


def parse_device(name: str | Device) -> Device:
    """The device called `name`: '/device:CPU:0', 'CPU:0', 'cpu', '/job:ps/task:0'.

    Raises:
        ValueError: not the form of a device's name.
    """
    if isinstance(name, Device):
        return name
    match = _NAME.fullmatch(name) if name else None
    if match is None:
        raise ValueError(f"{user_frame()} '{name}' is not a device; write for example '/device:CPU:0'")
    return Device(
        (match["kind"] or "CPU").upper(),
        int(match["index"] or 0),
        match["job"],
        int(match["task"]) if match["task"] else None,
    )


def check_device(name: str | Device | None) -> Device:
    """The device of that name, None standing for the default one.

    Raises:
        ValueError: this process has no such device.
    """
    wanted = CPU if name is None else parse_device(name)
    if wanted != CPU:
        raise ValueError(f"{user_frame()} there is no device '{wanted}' here; this process has '{CPU}'")
    return wanted


@contextmanager
def device(name: str | Device) -> Iterator[Device]:
    """Place the ops of a block on a device. This process computes on `/device:CPU:0`, the only one that can be named.

    Raises:
        ValueError: another device.
    """
    yield check_device(name)
