"""Devices by name, in full or in part: `/job:worker/task:1/device:CPU:0`, `/job:ps`, `/device:GPU`, `cpu:1`.

A part that is missing stands for any: `/device:GPU` is any GPU, `/job:ps/task:0` any device of that task. Programs
carry names as the tracer saw them; the pass `place` turns them to full ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Device:
    """A device's name; fields that are None stand for any.

    Example:
        >>> parse("/job:ps").merge(parse("cpu:0"))
        Device('/job:ps/device:CPU:0')
    """

    kind: str | None = None  # in capitals: CPU, GPU, TPU
    index: int | None = None
    job: str | None = None
    task: int | None = None

    @property
    def is_full(self) -> bool:
        """It names one device; job and task are given together or not at all."""
        return self.kind is not None and self.index is not None and (self.job is None) == (self.task is None)

    @property
    def task_name(self) -> str:
        """`/job:ps/task:0`, the empty string where neither is given."""
        job = f"/job:{self.job}" if self.job is not None else ""
        return job + (f"/task:{self.task}" if self.task is not None else "")

    def matches(self, other: Device) -> bool:
        """No field that both give differs: something that asks for one may be on the other."""
        return all(a is None or b is None or a == b for a, b in _pairs(self, other))

    def satisfies(self, request: Device) -> bool:
        """This one device is what a request asks for. A device without a job is of this process, task 0 of localhost.

        Example:
            >>> Device("CPU", 1).satisfies(Device("CPU")), Device("CPU", 1).satisfies(Device(job="ps"))
            (True, False)
        """
        own = self if self.job is not None else replace(self, job="localhost", task=0)
        return own.matches(request)

    def merge(self, inner: Device) -> Device:
        """This, with the fields that `inner` gives taken from there: nested scopes, the inner one wins. A new job or
        task leaves the device of the old one behind, as a new kind leaves its index."""
        base = self
        if inner.job not in (None, base.job):
            base = Device(job=inner.job)
        if inner.kind not in (None, base.kind):
            base = Device(inner.kind, None, base.job, base.task)
        given = {f.name: value for f in fields(inner) if (value := getattr(inner, f.name)) is not None}
        return replace(base, **given)

    def __str__(self) -> str:
        index = f":{self.index}" if self.index is not None else ""
        kind = f"/device:{self.kind}{index}" if self.kind is not None else ""
        return self.task_name + kind

    def __repr__(self) -> str:
        return f"Device('{self}')"


def _pairs(a: Device, b: Device) -> list[tuple[object, object]]:
    return [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Device)]


CPU = Device("CPU", 0)
NO_GPU = (
    "No GPU was found; `thalweg gpu-check` tells why. tw.config.set_virtual_devices(gpu=1) tries programs for GPUs "
    "without one, thalweg translate --to triton (or ptx, cubin) makes the kernels."
)

_NAME = re.compile(
    r"(?:/job:(?P<job>\w+))?(?:/(?:task|replica):(?P<task>\d+))?"
    r"(?:/?(?:device:)?(?P<kind>[A-Za-z]+)(?::(?P<index>\d+|\*))?)?"
)


def parse(name: str) -> Device:
    """The device called `name`: '/device:CPU:0', 'CPU:0', 'gpu', '/job:ps/task:0'.

    Raises:
        ValueError: not the form of a device's name.
    """
    match = _NAME.fullmatch(name) if name else None
    if match is None:
        raise ValueError(
            f"'{name}' is not a device; write for example '/device:CPU:0', '/job:ps/task:0' or "
            "'/job:worker/task:1/device:GPU:0'"
        )
    return Device(
        match["kind"].upper() if match["kind"] else None,
        int(match["index"]) if match["index"] not in (None, "*") else None,
        match["job"],
        int(match["task"]) if match["task"] else None,
    )
