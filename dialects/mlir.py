"""The one door to MLIR: every other module imports the bindings from here.

Another build of the same upstream bindings (import name ``mlir``) can take the place of ``torch_mlir`` by editing
this file alone.
"""

from torch_mlir import ir, passmanager, rewrite
from torch_mlir._mlir_libs import _stablehlo as stablehlo
from torch_mlir.dialects import func as func_dialect
from torch_mlir.dialects import llvm as llvm_dialect

PassManager = passmanager.PassManager

__all__ = ["PassManager", "func_dialect", "ir", "llvm_dialect", "rewrite", "stablehlo"]
