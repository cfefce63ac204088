"""What the array API standard lets a library ask about this one."""

from __future__ import annotations

from typing import Any

from thalweg.dialects.types import DTYPES, DType
from thalweg.frontend.device import CPU, Device, devices
from thalweg.frontend.dtypes import DEFAULT_FLOAT, DEFAULT_INT, isdtype


class NamespaceInfo:
    """The answer of `tw.__array_namespace_info__()`."""

    def capabilities(self) -> dict[str, Any]:
        """Boolean masks as indices and data-dependent shapes work eagerly; there is no limit to the dimensions."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": None}

    def default_device(self) -> Device:
        """Where arrays are made."""
        return CPU

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """Dtypes of what is made from Python numbers, and of indices. There are no complex numbers."""
        return {"real floating": DEFAULT_FLOAT, "integral": DEFAULT_INT, "indexing": DEFAULT_INT}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """Dtypes by name, of one kind or all."""
        return {d.name: d for d in DTYPES if kind is None or isdtype(d, kind)}

    def devices(self) -> list[Device]:
        """The devices there are."""
        return devices()


def __array_namespace_info__() -> NamespaceInfo:
    """Defaults, dtypes and devices, as the Python array API standard wants them."""
    return NamespaceInfo()
