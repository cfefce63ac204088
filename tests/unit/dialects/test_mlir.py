"""The stand-ins for the dialects' Python modules, which `sys.modules` holds until someone looks inside."""

import subprocess
import sys

_LOOK = """
import pickle, sys, thalweg.dialects.mlir

class Nowhere:  # an object that does not say where it is from: pickle looks for its name in every module
    __module__ = None
    def __reduce__(self):
        return "somewhere"

try:
    pickle.dumps(Nowhere())
except pickle.PicklingError as error:
    assert "somewhere" in str(error)
tw = sys.modules["torch_mlir.dialects.tw"]
assert not hasattr(tw, "somewhere") and sys.modules["torch_mlir.dialects.tw"] is tw
assert hasattr(sys.modules["torch_mlir.dialects.arith"], "AddFOp")
"""


def test_names_are_looked_for_in_every_module():
    subprocess.run([sys.executable, "-c", _LOOK], check=True, timeout=120)
