"""What products and attention read is computed as it is loaded, where that costs less than to store it before.

    before: %w = map bf16[k,n]: %q as float, times %scale;  %y = contract(%x, %w)
    after:  %y = contract(%x, %w, of %q and %scale)               %w is in no kernel and in no buffer

The value keeps its operands, and has as further ones what is read from buffers: what those are computed from, and
operands that are stored. Weights of 8 bits, casts, gathered rows, activations: each element is loaded and computed once
for each tile along the other side of the product.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from thalweg.backends.cpu.costs import own_cost
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Graph, Value
from thalweg.backends.cpu.plan import nbytes
from thalweg.backends.gpu.configurations import attention_tile, matmul_tile
from thalweg.backends.gpu.contraction import classes_of, multiplies_tiles, parts_of, sizes_of
from thalweg.backends.gpu.options import GpuOptions

MOST = 48  # instructions for each element that is not stored, those of all tiles together
_COMPUTED = ("map", "slice")


def absorb_prologues(graph: Graph, options: GpuOptions) -> bool:
    """Rewrite a graph, whose `users` are right, and its regions in place; was anything changed? `users` is stale
    afterwards."""
    changed, own = False, set(graph.values)
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= absorb_prologues(region, options)
    absorbed, leaves = set[Value](), dict[Value, list[Value]]()
    for value in graph.values:
        chain = _chain(value, own) if value.kind in _COMPUTED and value not in graph.outputs else set()
        readers = {user.peers[0] if user.peers else user for user in value.users}
        if chain and all(_pays(value, chain, reader, options) for reader in readers):
            absorbed |= chain
            for reader in readers:
                leaves.setdefault(reader, []).extend(_leaves(chain))
    for reader, more in leaves.items():
        more += [operand for operand in reader.operands if operand not in absorbed and operand.kind in _COMPUTED]
        for peer in reader.peers or (reader,):
            peer.operands = (*peer.operands, *dict.fromkeys(more))
    graph.values = [value for value in graph.values if value not in absorbed]
    return changed or bool(absorbed)


def drop_absorbed(graph: Graph, around: frozenset[Value] = frozenset()) -> None:
    """Values that are in no kernel are not captured from anywhere; to be called when `captures` is filled in.

    Args:
        around: the values of the graphs that this one is nested in.
    """
    graph.captures = [value for value in graph.captures if value in around]
    seen = around.union(graph.args, graph.values)
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            drop_absorbed(region, seen)


def with_prologues(group: Group) -> Group:
    """A group with what its root's operands are computed from among its members."""
    root = group.root
    operands, leaves = root.operands[: _read(root)], set(root.operands[_read(root) :])
    pending = [value for value in operands if leaves and value.kind in _COMPUTED and value not in leaves]
    found = set[Value]()
    while pending:
        value = pending.pop()
        if value not in leaves and value.kind in _COMPUTED and value not in found:
            found.add(value)
            pending += value.operands
    return replace(group, members=group.members | found)


def _read(root: Value) -> int:
    """How many operands a product or an attention has without those of prologues."""
    if root.attention is not None:
        return len(root.attention.operands)
    assert root.generic is not None
    return root.generic.inputs + 1 + bool(parts_of(root))


def _chain(value: Value, own: set[Value]) -> set[Value]:
    """A value and those that only it is computed from; none where one of them cannot be computed in a product."""
    chain, pending = {value}, [value]
    while pending:
        for operand in pending.pop().operands:
            only = operand in own and all(user in chain for user in operand.users)
            if operand.kind in _COMPUTED and only and operand not in chain:
                chain.add(operand)
                pending.append(operand)
    if any(v.generic is not None and any(op.regions for op in v.generic.body.ops) for v in chain):
        return set()
    moving = [offset for v in chain for offset in v.offsets if isinstance(offset, Value)]
    leaves = _leaves(chain)
    return set() if moving or not leaves or any(v.kind in ("scalar", "empty") for v in leaves) else chain


def _leaves(chain: Iterable[Value]) -> list[Value]:
    """What values are computed from, that is in buffers."""
    chain = set(chain)
    found = {operand: None for v in sorted(chain, key=lambda v: v.id) for operand in v.operands}
    return [v for v in found if v not in chain and v.splat is None]


def _pays(value: Value, chain: set[Value], reader: Value, options: GpuOptions) -> bool:
    """Is a value better computed wherever a reader loads it?"""
    if reader.kind == "attention":
        times = _loads_of_attention(value, reader, options)
    elif reader.kind == "contract" and multiplies_tiles(reader) and value in reader.operands[:2]:
        times = _loads_of_product(value, reader, options)
    else:
        return False
    width = nbytes(value) / value.size if value.size else 0
    loaded = sum(min(nbytes(leaf) / value.size, nbytes(leaf) / leaf.size) for leaf in _leaves(chain) if leaf.size)
    # Where to gather from is computed once a row.
    cost = sum(1 if v.generic is not None and v.generic.captures else own_cost(v) for v in chain)
    return value.size > 0 and cost * times <= MOST and loaded * times <= loaded + width * (1 + times)


def _loads_of_product(value: Value, root: Value, options: GpuOptions) -> int:
    """How often an element of an operand is loaded: once for each tile along the other operand's axis."""
    sizes = sizes_of(root)
    tile, (_, m, n, _) = matmul_tile(root.operands[0].element, *sizes, options), sizes
    left = classes_of(root).left
    times = [0, 0]
    times[left], times[1 - left] = -(-n // tile.n), -(-m // tile.m)
    return sum(count for operand, count in zip(root.operands[:2], times, strict=True) if operand is value)


def _loads_of_attention(value: Value, root: Value, options: GpuOptions) -> int:
    """The same for an attention, whose programs hold the rows of some operands and walk all of others."""
    spec = root.attention
    assert spec is not None
    names = {own for own, outside in zip(spec.operands, root.operands, strict=False) if outside is value}
    if any(not names.isdisjoint(member.operands) for member in spec.members if member.kind != "contract"):
        return MOST + 1
    tile = attention_tile(max(p.features for p in (*spec.scores, *spec.products)), value.element != "f32", options)
    by_columns = any(p.sums(spec.row) for p in spec.products)
    held, block = (spec.extents[-1], tile.n) if by_columns else (spec.extents[-2], tile.m)
    return sum(
        1 if product.scores is None and _is_held(product.axes, product.value, k, spec.extents, by_columns) else
        -(-held // block)
        for product in (*spec.scores, *spec.products)
        for k, operand in enumerate(product.value.operands[:2])
        if operand in names
    )  # fmt: skip


def _is_held(axes: tuple[int | None, ...], value: Value, position: int, extents: tuple[int, ...], cols: bool) -> bool:
    """Is an operand of a contraction that makes scores along the axis that programs hold?"""
    assert value.generic is not None
    wanted = len(extents) - (1 if cols else 2)
    return any(axes[d] == wanted for e in value.generic.maps[position] for d, _ in e.terms)
