"""What a pass is: a frozen dataclass with a name, typed options, and `run`.

    @dataclass(frozen=True)
    class Simplify(Pass):
        '''One line that says what it does.

        Before: …    After: …
        '''
        name = "simplify"
        max_iterations: int = 4          # the option `max-iterations` of `simplify{max-iterations=8}`

        def run(self, module: ir.Module) -> bool: ...

A pass holds no state beyond its options, sees a verified module and leaves one, and keeps locations: an op that it
makes carries the location of the op it was made for.
"""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_type_hints

from thalweg.dialects.diagnostics import PassError, did_you_mean
from thalweg.dialects.mlir import ir

_PARSERS: dict[type, Callable[[str], Any]] = {
    int: int,
    float: float,
    str: str,
    bool: lambda text: {"true": True, "false": False}[text],
}


@dataclass(frozen=True)
class Pass(ABC):
    """A module-to-module transformation. Options are the fields of the dataclass."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, module: ir.Module) -> bool:
        """Transform `module` in place, with its context entered; says whether anything changed."""

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring, for listings."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]

    @classmethod
    def options(cls) -> dict[str, dataclasses.Field[Any]]:
        """The fields by the name that pipeline text gives them: `max-iterations` for `max_iterations`."""
        return {f.name.replace("_", "-"): f for f in dataclasses.fields(cls)}

    @classmethod
    def from_options(cls, texts: Mapping[str, str]) -> Self:
        """The pass with options given as text.

        Raises:
            PassError: no such option, or a value that is not of its type.

        Example:
            >>> Simplify.from_options({"max-iterations": "3"})
            Simplify(max_iterations=3)
        """
        fields, types = cls.options(), get_type_hints(cls)
        values: dict[str, Any] = {}
        for option, text in texts.items():
            if option not in fields:
                known = ", ".join(fields) or "none"
                raise PassError(
                    f"pass '{cls.name}' has no option '{option}'{did_you_mean(option, fields) or '.'} It has: {known}."
                )
            kind = types[fields[option].name]
            try:
                values[fields[option].name] = _PARSERS[kind](text)
            except (ValueError, KeyError):
                raise PassError(
                    f"pass '{cls.name}': option '{option}' takes a value of type {kind.__name__}, got '{text}'."
                ) from None
        return cls(**values)

    def __str__(self) -> str:
        """As pipeline text: options that differ from their defaults in braces."""
        changed = [
            f"{option}={_show(value)}"
            for option, f in self.options().items()
            if (value := getattr(self, f.name)) != f.default
        ]
        return f"{self.name}{{{','.join(changed)}}}" if changed else self.name


def _show(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
