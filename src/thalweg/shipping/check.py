"""An export against the functions that it was made of, on the user's own samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import ExportError
from thalweg.dialects.location import user_frame
from thalweg.frontend.tree import flatten
from thalweg.runtime.bundle import load
from thalweg.shipping.signatures import Signature

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Error:
    """How far a result of the library is from the function's."""

    signature: str
    output: str
    largest: float
    mean: float

    def __str__(self) -> str:
        return f"{self.signature}.{self.output}: largest error {self.largest:.3g}, mean {self.mean:.3g}"


def samples_by_signature(
    signatures: Sequence[Signature], samples: Any
) -> Iterator[tuple[Signature, tuple[Any, ...]]]:
    """The signatures that there are samples for, each with its arguments.

    Raises:
        ExportError: samples for no signature.
    """
    given: Mapping[str, Any] = samples if isinstance(samples, Mapping) else {signatures[0].name: samples}
    by_name = {s.name: s for s in signatures}
    for name, arrays in given.items():
        if name not in by_name:
            known = ", ".join(by_name)
            raise ExportError(f"{user_frame()} export: samples for '{name}', but the signatures are {known}.")
        yield by_name[name], arrays if isinstance(arrays, tuple) else (arrays,)


def errors_of(folder: Path, signatures: Sequence[Signature], samples: Any) -> list[Error]:
    """Run the library for this machine in `folder`, and the functions, on samples.

    Args:
        samples: by signature's name a tuple of arrays; or the arrays of the first signature.

    Raises:
        ExportError: samples for no signature, or not of its types.
    """
    found = []
    model = load(folder)
    for signature, inputs in samples_by_signature(signatures, samples):
        name = signature.name
        wanted = [np.asarray(leaf) for leaf in flatten(signature.function(*inputs))[0]]
        got = getattr(model, name)(*[np.asarray(leaf) for leaf in flatten(inputs)[0]])
        results = list(got.values()) if isinstance(got, dict) else [got]
        for output, a, b in zip(signature.outputs, results, wanted, strict=True):
            difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
            found.append(Error(name, output, float(difference.max(initial=0)), float(difference.mean())))
    return found
