"""Native code that a process makes for itself, kept for later processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from thalweg.backends.cpu import kept
from thalweg.backends.cpu.dispatch import _OFFSETS
from thalweg.backends.cpu.dispatch_ir import IR
from thalweg.backends.cpu.jit import Code

TEXT = "define i64 @f(i64 %x) {\n  %y = mul i64 %x, %x\n  ret i64 %y\n}\n"


class Memory(dict[str, bytes]):
    """A store."""

    def put(self, key: str, payload: bytes) -> None:
        self[key] = payload


@pytest.fixture
def store() -> Iterator[Memory]:
    before = list(kept._stores)
    memory = Memory()
    kept.keep_in(memory)
    yield memory
    kept._stores[:] = before


def test_code_is_compiled_once(store: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept.object_code(TEXT)
    assert list(store.values()) == [first]
    monkeypatch.setattr(kept, "compile_llvm", None)  # would fail
    assert kept.object_code(TEXT) == first
    assert Code(first, "f").address("f")


def test_other_text_is_other_code(store: Memory) -> None:
    kept.object_code(TEXT)
    kept.object_code(TEXT.replace("mul", "add"))
    assert len(store) == 2


def test_without_a_store_it_is_compiled(store: Memory) -> None:
    kept.keep_in(None)
    assert kept.object_code(TEXT) and not store


def test_the_code_of_a_process_has_no_addresses_in_it() -> None:
    assert "inttoptr" not in IR.format(**_OFFSETS)


def test_what_is_small_is_inlined(store: Memory) -> None:
    text = "define internal i64 @g(i64 %x) alwaysinline {\n  %y = add i64 %x, 1\n  ret i64 %y\n}\n"
    text += "define i64 @f(i64 %x) {\n  %y = call i64 @g(i64 %x)\n  ret i64 %y\n}\n"
    plain = text.replace(" alwaysinline", " noinline")
    assert len(kept.object_code(text)) < len(kept.object_code(plain))
