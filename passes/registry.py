"""The passes by name. Modules are imported when a pass is first asked for, so listing names costs nothing."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType

from thalweg.dialects.diagnostics import PassError, did_you_mean
from thalweg.passes.base import Pass

PASSES = MappingProxyType(
    {
        "inline": "inline:Inline",
        "hoist-state": "hoist_state:HoistState",
        "differentiate": "differentiate:Differentiate",
        "constant-fold": "constant_fold:ConstantFold",
        "algebraic": "algebraic:Algebraic",
        "cse": "cse:Cse",
        "dce": "dce:Dce",
        "slim-regions": "slim_regions:SlimRegions",
        "hoist-sums": "hoist_sums:HoistSums",
        "hoist-products": "hoist_products:HoistProducts",
        "simplify": "simplify:Simplify",
        "lower-checkpoint": "lower_checkpoint:LowerCheckpoint",
        "lower-scan": "lower_scan:LowerScan",
        "lower-control": "lower_control:LowerControl",
        "functionalize": "functionalize:Functionalize",
        "specialise": "specialise:Specialise",
        "place": "place:Place",
        "fuse-lookups": "fuse_lookups:FuseLookups",
        "partition": "partition:Partition",
        "cluster": "cluster:Cluster",
    }
)


def find(name: str) -> type[Pass]:
    """The pass called `name`.

    Raises:
        PassError: there is none; the message suggests the nearest name.
    """
    if name not in PASSES:
        raise PassError(
            f"unknown pass '{name}'{did_you_mean(name, PASSES) or '.'} The passes are: {', '.join(PASSES)}."
        )
    module, _, attribute = PASSES[name].partition(":")
    found = getattr(import_module(f"thalweg.passes.{module}"), attribute)
    assert isinstance(found, type) and issubclass(found, Pass) and found.name == name
    return found
