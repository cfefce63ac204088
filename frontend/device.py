"""Where ops are to run: `with tw.device("/job:ps/task:0"):`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from thalweg.dialects.devices import CPU, NO_GPU, Device, parse
from thalweg.dialects.location import user_frame
from thalweg.runtime.config import config

__all__ = [
    "CPU",
    "Device",
    "asked_for",
    "asked_here",
    "check_device",
    "current_scope",
    "device",
    "devices",
    "parse_device",
    "regardless",
]

COLOCATE = "colocate:"  # a scope of this form asks for the device of the variable or op that it names


class _Scope(threading.local):
    """What this thread's `tw.device` blocks ask for."""

    device = Device()
    colocate: str | None = None
    text = ""  # both, as `current_scope` tells them
    here = ""  # what computes at once: the device of this process that they ask for, if they name its kind


_scope = _Scope()


def parse_device(name: str | Device) -> Device:
    """The device called `name`: '/device:CPU:0', 'CPU:0', 'cpu', '/job:ps/task:0'.

    Raises:
        ValueError: not the form of a device's name.
    """
    if isinstance(name, Device):
        return name
    try:
        return parse(name)
    except ValueError as error:
        raise ValueError(f"{user_frame()} {error}") from None


def devices() -> list[Device]:
    """The devices of this process; the first is the default. `tw.config.set_virtual_devices` makes more."""
    return [parse(name) for name in config.devices]


def check_device(name: str | Device | None) -> Device:
    """The device of this process that a name, in full or in part, stands for; None stands for the default one.

    Raises:
        ValueError: this process has no such device.
    """
    wanted = CPU if name is None else parse_device(name)
    found = _here(wanted)
    if found is None:
        names = ", ".join(f"'{d}'" for d in devices())
        no_gpu = wanted.kind == "GPU" and all(d.kind != "GPU" for d in devices())
        hint = NO_GPU if no_gpu else f"tw.config.set_virtual_devices({(wanted.kind or 'CPU').lower()}=…) makes more."
        raise ValueError(f"{user_frame()} there is no device '{wanted}' here; this process has {names}. {hint}")
    return found


def _here(wanted: Device) -> Device | None:
    return next((d for d in devices() if d.satisfies(wanted)), None)


def asked_for(scope: str) -> Device:
    """The device that a scope stands for: one of this process, where it may be that, else what the scope says."""
    wanted = Device() if scope.startswith(COLOCATE) else parse(scope) if scope else Device()
    return _here(wanted) or wanted


@contextmanager
def regardless(place: Device | None = None) -> Iterator[None]:
    """Forget the blocks around this one: what is computed at once is computed on `place`, which is the host if None."""
    if place is None and devices()[0].kind != "CPU":
        place = CPU
    with device(None), nullcontext() if place is None else device(place):
        yield


def asked_here() -> str:
    """The device of this process on which the blocks around ask for what is computed at once; the empty string if
    they name none, or another task's."""
    return _scope.here


def current_scope() -> str:
    """What ops made now are asked to run on, as their locations carry it; the empty string for anything."""
    return _scope.text


@contextmanager
def device(name: str | Device | None) -> Iterator[Device]:
    """Ask for the ops of a block to run on a device.

    Args:
        name: a full or partial name; fields that it leaves out are those of the block around it. None forgets the
            blocks around it. "colocate:w" asks for the device of the variable or op called w.

    Raises:
        ValueError: not the form of a device's name.

    Example:
        >>> with tw.device("/job:ps"), tw.device("/task:1"): ...
    """
    before = _scope.device, _scope.colocate, _scope.text, _scope.here
    if isinstance(name, str) and name.startswith(COLOCATE):
        _scope.colocate = name.removeprefix(COLOCATE)
    else:
        _scope.device = Device() if name is None else _scope.device.merge(parse_device(name))
        _scope.colocate = None
    _scope.text = f"{COLOCATE}{_scope.colocate}" if _scope.colocate is not None else str(_scope.device)
    is_here = _scope.colocate is None and _scope.device.kind is not None and _scope.device.job in (None, "localhost")
    _scope.here = str(_scope.device) if is_here else ""
    try:
        yield _scope.device
    finally:
        _scope.device, _scope.colocate, _scope.text, _scope.here = before
