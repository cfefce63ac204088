"""The target "tpu": each signature as a portable StableHLO artefact, for whatever PJRT drives.

    tpu/infer_128.stablehlo  tpu/train_step.stablehlo         and the manifest's "tpu"

Control flow, training steps and narrow weights are part of the artefact; the state is in `weights.safetensors`, the
arguments after the inputs. What a signature changes comes back as trailing results, in the memory of the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thalweg.backends.pjrt.lower import lower
from thalweg.backends.stablehlo.artefact import portable_version
from thalweg.dialects.diagnostics import ExportError, VerificationError
from thalweg.dialects.location import user_frame
from thalweg.shipping.report import Report
from thalweg.shipping.signatures import Piece, Signature, signatures_of
from thalweg.shipping.state import State

TPU = "tpu"
BATCH = 128  # rows that a batched signature takes at a time, beside the sizes of the native libraries


def pieces_for_tpu(
    given: Mapping[str, Any] | Callable[..., Any], signatures: Sequence[Signature]
) -> dict[str, tuple[Piece, ...]]:
    """The programs of each signature, by its name: those of the libraries, and for batches one for many rows."""
    if not any(piece.rows for s in signatures for piece in s.pieces):
        return {s.name: s.pieces for s in signatures}
    large = {s.name: s.pieces for s in signatures_of(given, (BATCH,))}
    return {s.name: (*large[s.name], *s.pieces) if s.pieces[0].rows else s.pieces for s in signatures}


def write_tpu(
    report: Report,
    signatures: Sequence[Signature],
    pieces: Mapping[str, Sequence[Piece]],
    state: State,
    version: str | None,
    shards: int,
) -> dict[str, Any]:
    """Write the artefacts; gives what the manifest tells of them. Call with the context entered.

    Raises:
        ExportError: this version of StableHLO does not exist or has not what a program needs.
    """
    version = version or portable_version()
    programs = {s.name: [_program(report, s, p, state, version, shards) for p in pieces[s.name]] for s in signatures}
    return {"stablehlo": version, "shards": shards, "programs": programs}


def _program(
    report: Report, signature: Signature, piece: Piece, state: State, version: str, shards: int
) -> dict[str, Any]:
    inputs = len(signature.inputs)
    try:
        made = lower(piece.module, version, shards, inputs)
    except VerificationError as error:
        raise ExportError(f"{user_frame()} export of '{signature.name}': {error}") from None
    path = f"{TPU}/{piece.name}.stablehlo"
    report.write(path, made.data)
    kept = state.taken[piece.name]
    return {
        "file": path, "rows": piece.rows, "state": kept,
        "updates": {str(result): kept[argument - inputs] for result, argument in made.aliases.items()},
        "split_inputs": made.splits[0][:inputs], "split_outputs": made.splits[1],
    }  # fmt: skip
