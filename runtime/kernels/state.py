"""Variables' handles, for the host ops that take them."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.runtime.kernels import Call, kernel
from thalweg.runtime.resources import Buffer


@kernel("variable_handle")
def variable_handle(call: Call) -> Sequence[Buffer]:
    return [call.step.resources.variables[call.attrs["name"]]]
