"""Portable artefacts: StableHLO as versioned MLIR bytecode, readable by older and newer compilers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from thalweg.backends.stablehlo.bytecode import without_attributes
from thalweg.backends.stablehlo.expressions import clone_module
from thalweg.dialects import context
from thalweg.dialects.diagnostics import VerificationError
from thalweg.dialects.mlir import ir, stablehlo

MAGIC = b"ML\xefR"  # every MLIR bytecode file starts so
_PRODUCER = b"StableHLO_v"  # the producer string of a portable artefact follows the magic and one byte of version


def current_version() -> str:
    """The newest StableHLO version that this build writes, such as '1.16.3'."""
    return str(stablehlo.get_current_version())


def minimum_version() -> str:
    """The oldest StableHLO version that this build can write."""
    return str(stablehlo.get_minimum_version())


def portable_version() -> str:
    """The version to write for others: one that compilers of the last twelve weeks read, and those to come."""
    wanted = stablehlo.StablehloCompatibilityRequirement.WEEK_12
    return str(stablehlo.get_version_from_compatibility_requirement(wanted))


def is_artefact(data: bytes) -> bool:
    """Whether `data` is a portable artefact, as opposed to other MLIR bytecode or text."""
    return data.startswith(MAGIC) and data[5 : 5 + len(_PRODUCER)] == _PRODUCER


def serialize(module: ir.Module, version: str | None = None) -> bytes:
    """`module` as a portable artefact that StableHLO `version` (default: the current one) can read.

    Args:
        module: plain StableHLO: no CHLO (see `importer.prepare`), no `tw` ops.

    Raises:
        VerificationError: the version does not exist, or the module uses what it does not have.

    Example:
        >>> data = serialize(module, "1.0.0")
        >>> str(deserialize(data)) == str(module)
        True
    """
    target = version or current_version()
    what = f"the module could not be written as StableHLO {target} "
    what += f"(this build writes {minimum_version()} to {current_version()})"
    with module.context, ir.Location.unknown(), _explained(module.context, what):
        # The bindings would turn the module itself into the versioned dialect.
        return bytes(stablehlo.serialize_portable_artifact(clone_module(module), target))


def deserialize(data: bytes) -> ir.Module:
    """The module of a portable artefact, in the process-wide context.

    Raises:
        VerificationError: the data is damaged, or from a StableHLO version that this build cannot read.
    """
    if b"sdy" in data:
        data = without_attributes(data, "sdy")
    what = f"the portable artefact could not be read (this build reads StableHLO up to {current_version()})"
    with context.entered() as home, _explained(home, what):
        return stablehlo.deserialize_portable_artifact(home, data)


@contextmanager
def _explained(home: ir.Context, what: str) -> Iterator[None]:
    """Turn a failure into a VerificationError that says `what`, with the diagnostics that MLIR would print."""
    said: list[str] = []

    def listen(diagnostic: ir.Diagnostic) -> bool:
        said.append(diagnostic.message)
        return True

    try:
        with home.attach_diagnostic_handler(listen):
            yield
    except (ValueError, ir.MLIRError) as error:
        raise VerificationError(f"{what}: {'; '.join(said) or error}") from error
