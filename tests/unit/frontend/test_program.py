"""The slot for the compiler."""

from __future__ import annotations

from thalweg.backends.reference.compiler import ReferenceCompiler
from thalweg.compiler import driver
from thalweg.frontend import array as xp
from thalweg.frontend import program


def test_a_compiler_is_made_when_it_is_first_needed():
    made = []

    def make():
        made.append(ReferenceCompiler())
        return made[-1]

    program.install(make)
    assert program.installed() is make and made == []
    assert xp.add(xp.ones((2,)), 1).tolist() == [2, 2]
    assert program.compiler() is made[0] and len(made) == 1


def test_installing_forgets_what_another_compiler_compiled():
    xp.add(xp.ones((2,)), 1)
    assert program.eager_programs()
    program.install(ReferenceCompiler)
    assert not program.eager_programs()


def test_the_compiler_of_the_package_unless_another_is_installed(monkeypatch):
    monkeypatch.setattr(program, "_slot", program._Slot())
    assert program.compiler() is driver()
