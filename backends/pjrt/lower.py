"""StableHLO as PJRT takes it: what is updated in place, and what is split over devices, as attributes of `main`.

    before: func @main(%x: tensor<8x3xf32>, %w: tensor<3x5xf32> {tw.variable = "w", tw.alias = 1})
    after:  func @main(%x: … {mhlo.frontend_attributes = {xla.sdy.sharding = "…"}}, %w: … {tf.aliasing_output = 1})

Shardings are Shardy's, in the text form that XLA reads without the dialect: a mesh of one axis, and for each argument
and result whether its first axis is split over it. The compiler of the devices does the rest: a gradient that is summed
over a split batch becomes an all-reduce.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.backend import aliases_of, main_function, signature_types
from thalweg.backends.stablehlo.artefact import portable_version, serialize
from thalweg.backends.stablehlo.expressions import clone_module
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType

_FRONTEND = "mhlo.frontend_attributes"


@dataclass(frozen=True)
class Portable:
    """A program for PJRT.

    Args:
        data: the portable artefact.
        inputs, outputs: types, what variables become included.
        aliases: `aliases[k] = j`: result k is the new value of argument j, whose memory it takes.
        splits: for each argument and for each result, whether it is split over the devices.
    """

    data: bytes
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    aliases: dict[int, int]
    splits: tuple[tuple[bool, ...], tuple[bool, ...]]


def lower(module: ir.Module, version: str | None = None, shards: int = 1, inputs: int | None = None) -> Portable:
    """Make the artefact of a StableHLO module with variables as trailing arguments (`Driver.to_stablehlo`).

    Args:
        version: of StableHLO; by default one that compilers of the last months read.
        shards: over how many devices the batch is split: arguments among the first `inputs`, and results, whose first
            extent is the batch's. The batch is the first extent of the first argument that can be split evenly.
        inputs: how many of the arguments are the caller's; all by default. The others are on every device.

    Raises:
        VerificationError: the version has not what the program needs.

    Example:
        >>> lower(module, shards=4).splits
        ((True, False), (True, False))
    """
    with context.entered():
        copy = clone_module(module)
        main = main_function(copy.operation)
        arguments, results = signature_types(main)
        aliases = aliases_of(main)
        count = len(arguments) if inputs is None else inputs
        splits = _splits(arguments, results, aliases, shards, count)
        by_argument = {argument: result for result, argument in aliases.items()}
        pairs = enumerate(zip(arguments, splits[0], strict=True))
        attributes = [_attributes(by_argument.get(k), type_, split, shards) for k, (type_, split) in pairs]
        main.attributes["arg_attrs"] = ir.ArrayAttr.get(attributes)
        if shards > 1:
            attributes = [_attributes(None, t, s, shards) for t, s in zip(results, splits[1], strict=True)]
            main.attributes["res_attrs"] = ir.ArrayAttr.get(attributes)
            mesh = f'{{mesh = #sdy.mesh<["batch"={shards}]>}}'
            copy.operation.attributes[_FRONTEND] = _strings({"xla.sdy.meshes": mesh})
        plain = ir.Module.parse(copy.operation.get_asm(enable_debug_info=False))  # same bytes wherever the source lies
        return Portable(serialize(plain, version or portable_version()), arguments, results, aliases, splits)


def _splits(
    arguments: Sequence[TensorType], results: Sequence[TensorType], aliases: dict[int, int], shards: int, inputs: int
) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Which arguments and results to split. Any choice gives the same numbers; this one splits the work."""
    given = arguments[:inputs]
    batch = next((t.shape[0] for t in given if shards > 1 and t.rank and t.shape[0] % shards == 0 and t.shape[0]), None)

    def split(type_: TensorType) -> bool:
        return batch is not None and type_.rank > 0 and type_.shape[0] == batch

    return (
        tuple(k < inputs and split(t) for k, t in enumerate(arguments)),
        tuple(k not in aliases and split(t) for k, t in enumerate(results)),
    )


def _attributes(alias: int | None, type_: TensorType, split: bool, shards: int) -> ir.Attribute:
    made: dict[str, ir.Attribute] = {}
    if alias is not None:
        made["tf.aliasing_output"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), alias)
    if shards > 1:
        axes = ['{"batch"}' if split and axis == 0 else "{}" for axis in range(type_.rank)]
        made[_FRONTEND] = _strings({"xla.sdy.sharding": f"#sdy.sharding<@mesh, [{', '.join(axes)}]>"})
    return ir.DictAttr.get(made)


def _strings(values: dict[str, str]) -> ir.Attribute:
    return ir.DictAttr.get({name: ir.StringAttr.get(text) for name, text in values.items()})
