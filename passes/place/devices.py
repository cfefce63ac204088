"""Lists of devices as text, and the names that the devices of this process have."""

from __future__ import annotations

import re
from collections.abc import Iterator

from thalweg.dialects.devices import Device, parse
from thalweg.dialects.diagnostics import PassError

_COUNT = re.compile(r"([A-Za-z]+):(\d+)")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST = 4096  # devices: a slip of the pen in a range should not take the machine's memory


def parse_devices(text: str) -> tuple[Device, ...]:
    """The devices that a list names: items separated by `;` or spaces, each a name in which numbers may be ranges, or a
    kind and how many there are of it.

    Raises:
        PassError: an item is neither, or names a device in part only, or no device at all is named.

    Example:
        >>> parse_devices("cpu:2")
        (Device('/device:CPU:0'), Device('/device:CPU:1'))
        >>> [str(d) for d in parse_devices("/job:ps/task:0..1/cpu:0")]
        ['/job:ps/task:0/device:CPU:0', '/job:ps/task:1/device:CPU:0']
    """
    found: dict[Device, None] = {}
    for item in re.split(r"[;\s]+", text.strip()):
        count = _COUNT.fullmatch(item)
        names = (f"{count[1]}:{i}" for i in range(int(count[2]))) if count else _spelled_out(item)
        for name in names:
            found[_full(name, item)] = None
            if len(found) > MOST:
                raise PassError(f"the devices '{text}' are more than {MOST}.")
    if not found:
        raise PassError(f"the devices '{text}' are none. Write for example cpu:2 or /job:ps/task:0..1/cpu:0.")
    return tuple(found)


def _spelled_out(item: str) -> Iterator[str]:
    """One name for each number of each range in an item."""
    found = _RANGE.search(item)
    if found is None:
        yield item
        return
    for number in range(int(found[1]), int(found[2]) + 1):
        yield from _spelled_out(f"{item[: found.start()]}{number}{item[found.end() :]}")


def _full(name: str, item: str) -> Device:
    try:
        device = parse(name)
    except ValueError as error:
        raise PassError(f"in a list of devices: {error}") from None
    if not device.is_full:
        raise PassError(
            f"'{item}' in a list of devices names one in part only. Write its kind and number, too, and job and task "
            "both or neither: /job:ps/task:0/device:CPU:0, /job:worker/task:0..3/cpu:0, cpu:2."
        )
    return device
