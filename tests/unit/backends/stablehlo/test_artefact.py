"""Portable artefacts: round trips, versions, damage, and attributes of dialects that this build lacks."""

from __future__ import annotations

import pytest

from thalweg.backends.stablehlo import artefact, bytecode
from thalweg.backends.stablehlo.importer import read
from thalweg.dialects.diagnostics import VerificationError

PLAIN = (
    "func.func @main(%a: tensor<3xf32>) -> tensor<3xf32> {\n"
    "%0 = stablehlo.sqrt %a : tensor<3xf32>\n"
    "return %0 : tensor<3xf32> }"
)


def test_round_trip() -> None:
    module = read(PLAIN)
    data = artefact.serialize(module)
    assert artefact.is_artefact(data)
    assert str(artefact.deserialize(data)) == str(module)


def test_older_versions() -> None:
    module = read(PLAIN)
    assert artefact.minimum_version() in artefact.serialize(module, artefact.minimum_version())[:40].decode("latin1")


def test_versions_that_do_not_exist() -> None:
    with pytest.raises(VerificationError, match=r"could not be written as StableHLO 99\.0\.0 \(this build writes"):
        artefact.serialize(read(PLAIN), "99.0.0")


def test_damage() -> None:
    data = artefact.serialize(read(PLAIN))
    with pytest.raises(VerificationError, match="portable artefact could not be read"):
        artefact.deserialize(data[:40] + b"garbage")


def test_attributes_of_a_dialect_become_unit() -> None:
    data = artefact.serialize(read(PLAIN))
    # The artefact holds attributes and types in the dialect `vhlo`; only its attributes are replaced.
    edited = bytecode.without_attributes(data, "vhlo")
    assert edited != data and bytecode.without_attributes(edited, "vhlo") == edited


def test_dialects_that_are_not_there_change_nothing() -> None:
    data = artefact.serialize(read(PLAIN))
    assert bytecode.without_attributes(data, "sdy") == data


def test_what_is_no_bytecode() -> None:
    with pytest.raises(VerificationError, match="not MLIR bytecode"):
        bytecode.without_attributes(b"ML\xefR\x01oops", "sdy")
