"""Thalweg: dataflow with mutable state as one MLIR program. Trace, differentiate, compile, inspect.

    import thalweg as tw

    @tw.function
    def f(x):
        return tw.sum(tw.tanh(x) ** 2)

    f(tw.ones((3,)))
    tw.grad(f)(tw.ones((3,)))

The public names are in public.py; the folders beside it are the compiler (see ARCHITECTURE.md). They are imported when
the first of them is used, so that a process that only runs an exported model (`tw.load`) never loads the compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.frontend.inspection import __array_namespace_info__ as __array_namespace_info__
    from thalweg.public import *  # noqa: F403
    from thalweg.public import __all__ as __all__

__version__ = "0.1.0"
__array_api_version__ = "2024.12"

_ELSEWHERE = {  # these do not bring the rest
    "load": "thalweg.runtime.bundle",
    "export": "thalweg.shipping.api",
    "__array_namespace_info__": "thalweg.frontend.inspection",
}


def __getattr__(name: str) -> Any:
    # Python calls this once per name: what is found becomes an attribute. No builtin that a public name hides (`any`,
    # `map`, `bool`…) may be used here.
    if name.startswith("__") and name not in ("__all__", *_ELSEWHERE):
        raise AttributeError(f"module 'thalweg' has no attribute '{name}'")
    if name not in _ELSEWHERE:
        public = import_module("thalweg.public")
        globals().update({n: getattr(public, n) for n in (*public.__all__, "__all__") if n not in _ELSEWHERE})
        if name in globals():  # a public name, or a folder that was imported by now
            return globals()[name]
        from thalweg.frontend.hints import instead

        raise AttributeError(f"module 'thalweg' has no attribute '{name}'{instead(name, of_tensor=False)}")
    found = getattr(import_module(_ELSEWHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
