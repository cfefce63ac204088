"""The one door to MLIR: every other module imports the bindings from here.

Another build of the same upstream bindings (import name ``mlir``) can take the place of ``torch_mlir`` by editing
this file alone.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from torch_mlir import ir, passmanager, rewrite
from torch_mlir._mlir_libs import _stablehlo as stablehlo
from torch_mlir.dialects import func as func_dialect
from torch_mlir.dialects import llvm as llvm_dialect

PassManager = passmanager.PassManager


class _Unread(ModuleType):
    """In the place of a dialect's Python module: the module itself only for those who look inside.

    `pickle` is one of them: it looks for a name in all modules. A dialect that has no Python module has no names.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        try:
            return getattr(import_module(self.__name__), name)
        except ModuleNotFoundError:
            sys.modules[self.__name__] = self
            raise AttributeError(name) from None


# The bindings want the Python module of every op's dialect. Those of some take longer to import than a small program to
# compile; where there is none, the bindings search anew at every touch of an op: 14 us against 0.1.
for _dialect in ("tw", "stablehlo", "chlo", "linalg", "tensor", "arith", "math"):
    sys.modules.setdefault(f"torch_mlir.dialects.{_dialect}", _Unread(f"torch_mlir.dialects.{_dialect}"))

__all__ = ["PassManager", "func_dialect", "ir", "llvm_dialect", "rewrite", "stablehlo"]
