"""`// expected-error` comments: where they point, and what counts as met."""

from __future__ import annotations

import pytest

from thalweg.dialects.diagnostics import VerificationError
from thalweg.tools.expected import Part, parts_of

TEXT = """line 1
// expected-error@+1 {{first}}
line 3 // expected-error {{here}}
// expected-error@above {{up}} expected-error@unknown {{nowhere}}
// expected-error-re@below {{a.c}}
"""


def test_where_comments_point() -> None:
    part = Part(TEXT, "f.mlir", whole=True)
    assert [(e.line, e.pattern) for e in part.expected] == [
        (3, "first"), (3, "here"), (3, "up"), (None, "nowhere"), (6, "a.c"),
    ]


def test_parts_keep_the_line_numbers_of_the_file() -> None:
    first, second = parts_of("a\nb\n// -----\nc // expected-error {{x}}\n", "f.mlir", split=True)
    assert first.text == "a\nb\n"
    assert [e.line for e in second.expected] == [4]
    assert second.text.splitlines()[3].startswith("c")


def raising(message: str) -> object:
    def run() -> None:
        raise VerificationError(message)

    return run


@pytest.mark.parametrize(
    ("comment", "message", "met"),
    [
        ("// expected-error@1 {{x}}", "f.mlir:1: x", False),  # no such place: not a comment
        ("// expected-error {{got (1)}}", "f.mlir:1: got (1)", True),
        ("// expected-error {{got 1}}", "f.mlir:2: got 1", False),  # another line
        ("// expected-error {{got 1}}", "f.mlir:1: got 2", False),  # another message
        ("// expected-error {{got .}}", "f.mlir:1: got 2", False),  # not a regular expression
        ("// expected-error-re {{got .}}", "f.mlir:1: got 2", True),
        ("// expected-error@unknown {{got}}", "model.py:7: got 2", True),
    ],
)
def test_what_counts_as_met(comment: str, message: str, met: bool) -> None:
    assert Part(comment, "f.mlir", whole=True).check(raising(message)) is met  # type: ignore[arg-type]


def test_an_expected_error_must_come(capsys: pytest.CaptureFixture[str]) -> None:
    assert not Part("// expected-error {{x}}", "f.mlir", whole=True).check(lambda: None)
    assert capsys.readouterr().err == "f.mlir:1: expected error {{x}} did not come\n"
    assert Part("nothing", "f.mlir", whole=True).check(lambda: None)
