"""Attention: matrices of scores that need not exist, found in a value graph and taken out of it.

    before: %s = contract(%q, %k); %m = reduce max %s; %e = exp(%s - %m); %l = reduce sum %e; %o = contract(%e / %l, %v)
    after:  %o, %m, %l = attention(%q, %k, %v)

A score is an element of a tensor over (outer…, row, column): a query meets a key. Scores are made by contractions over
features (q kᵀ, or dO vᵀ in the gradient), changed element by element (scale, mask, bias, exp), reduced along
columns, and used up by contractions over columns (p v, dS k) or over rows (pᵀ dO, dSᵀ q). What lies between is
recognised by how it moves data, not by its formula, so that softmax however written, with or without mask, dropout
or a cap on the scores, and the gradient of each, are all one case. Where no score is read by anything else, all of it
becomes one value of kind `attention`, or two: the gradient computes the scores again from what the first one reduced.

Nothing here knows how code for it looks; `backends/cpu/emit/attention.py` is one way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from thalweg.backends.cpu.costs import own_cost
from thalweg.backends.cpu.factors import invert_divisors, read_by, scaled_result, unscaled
from thalweg.backends.cpu.graph import Graph, Value, tidy
from thalweg.backends.cpu.scores import Axes, Product, Sink, sink_of
from thalweg.backends.cpu.visible import last_visible

CHEAP = 24  # cost per element up to which what depends on no score (a mask from two ranges) is computed in place
ALONE = 1 << 22  # scores from which on memory counts for more than threads
KEPT = 1 << 19  # scores below which keeping them for the gradient is faster than computing them again


@dataclass
class Attention:
    """What a value of kind `attention` computes.

    The value's peers are, in order, the results of `products`, then `kept`; its operands are `operands`.

    Args:
        extents: of the outer axes, then rows, then columns.
        axes: which axis each dimension of a member is, or of an operand that an earlier kernel has reduced.
        scores: the contractions that make scores.
        reductions: along columns, in an order in which they can be computed.
        products: the contractions that use scores up.
        kept: reductions that something else reads (the gradient, mostly).
        members: all values in between, to be computed where they are needed; the kernel's own, not the graph's.
        operands: what members and contractions read from outside, by the names that they have for it: the operands of
            the value, in this order, are what it has become since.
        visible: scores at column > row + visible count for nothing; None where nothing of the kind is known.
        joined: the results of `products` are parts of one peer, the first (joined.py).
    """

    extents: tuple[int, ...]
    axes: dict[Value, Axes] = field(default_factory=dict)
    scores: list[Product] = field(default_factory=list)
    reductions: list[Value] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    kept: list[Value] = field(default_factory=list)
    members: set[Value] = field(default_factory=set)
    operands: list[Value] = field(default_factory=list)
    visible: int | None = None
    joined: bool = False

    @property
    def row(self) -> int:
        """The number of the row axis."""
        return len(self.extents) - 2

    @property
    def column(self) -> int:
        return len(self.extents) - 1

    @property
    def features(self) -> int:
        """What stands for the features among the axes of a product's loops."""
        return len(self.extents)


def form_attention(graph: Graph, narrow: bool = False) -> bool:
    """Take the matrices of scores out of a graph (whose `users` are filled in) and of those nested in it, in place.

    Args:
        narrow: scores that are rounded to 16 bits count, too.

    Was anything changed? `users` is right afterwards.
    """
    changed = _form(graph, narrow)
    if changed:
        tidy(graph)
    return changed


def _form(graph: Graph, narrow: bool) -> bool:
    changed = False
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _form(region, narrow)
    own = set(graph.values)
    sinks = [sink for value in graph.values if value.kind == "contract" and (sink := sink_of(value, own, narrow))]
    for cluster in _clusters(sinks):
        stages = _stages(graph, cluster)
        if stages is not None:
            _rewrite(graph, stages)
            changed = True
    return changed


# From contractions to kernels.


def _clusters(sinks: Sequence[Sink]) -> Iterable[list[Sink]]:
    """Sinks that share a contraction, together; in program order."""
    home: dict[Value, list[Sink]] = {}
    for sink in sinks:
        cluster = [sink]
        for value in sink.tree.contractions:
            other = home.get(value)
            if other is not None and other is not cluster:
                cluster = other + [s for s in cluster if s not in other]
        for each in cluster:
            home.update(dict.fromkeys(each.tree.contractions, cluster))
    unique = {id(cluster): cluster for cluster in home.values()}
    return unique.values()


def _stages(graph: Graph, cluster: Sequence[Sink]) -> list[_Stage] | None:
    """The kernels of a cluster, in an order in which they can run; None where a score is needed elsewhere."""
    extents = cluster[0].tree.extents
    inside: dict[Value, Axes] = {}
    for sink in cluster:
        if sink.tree.extents != extents:
            return None
        for value, axes in sink.tree.axes.items():
            if inside.setdefault(value, axes) != axes:
                return None
    roots = {sink.product.value for sink in cluster}
    column = len(extents) - 1
    escaping = [
        value
        for value in inside
        if value in graph.outputs or any(user not in inside and user not in roots for user in value.users)
    ]
    if any(column in inside[value] or value.kind == "contract" for value in escaping):
        return None
    levels = _levels(graph, cluster)
    stages: list[Attention] = []
    reduced: dict[Value, Attention] = {}
    for level in sorted(set(levels.values())):
        stage = Attention(extents)
        for sink in cluster:
            if levels[sink.product.value] == level:
                stage.products.append(sink.product)
                _collect(stage, sink, reduced)
        stage.reductions.sort(key=lambda value: value.id)
        reduced.update(dict.fromkeys(stage.reductions, stage))
        stages.append(stage)
    operands = [_operands(graph, stage, reduced) for stage in stages]
    outside = {value for read in operands for value in read if value in reduced}
    while escaping:  # what each row has of its own, and is needed elsewhere, is computed there from the reductions
        value = escaping.pop()
        if value in reduced:
            outside.add(value)
        else:
            escaping += [operand for operand in value.operands if operand in inside]
    if not all(map(_is_worthwhile, stages)) or (len(stages) > 1 and math.prod(extents) < KEPT):
        return None
    return [_finished(graph, stage, read, outside, inside) for stage, read in zip(stages, operands, strict=True)]


def _is_worthwhile(stage: Attention) -> bool:
    """Sums along rows are one piece of work for each index of the outer axes."""
    *outer, rows, columns = stage.extents
    return math.prod(outer) > 1 or rows * columns >= ALONE or not any(p.sums(stage.row) for p in stage.products)


def _levels(graph: Graph, cluster: Sequence[Sink]) -> dict[Value, int]:
    """How many contractions of the cluster, one after the other, each of them waits for."""
    roots = {sink.product.value: sink for sink in cluster}
    inside = {value for sink in cluster for value in sink.tree.axes}
    waits: dict[Value, int] = {}  # of any value: kernels of this cluster that must have run before
    levels: dict[Value, int] = {}
    for value in graph.values:
        sources = (*value.operands, *(c for region in value.regions for c in region.captures))
        wait = max((waits.get(o, 0) for o in sources), default=0)
        if value in inside:  # only what its leaves wait for: itself it is computed again
            waits[value] = wait
        elif value in roots:
            levels[value] = wait
            waits[value] = wait + 1
        else:
            waits[value] = wait
    return levels


def _collect(stage: Attention, sink: Sink, reduced: dict[Value, Attention]) -> None:
    """Add what a sink's scores are computed from to a kernel; what an earlier one has reduced is read from there."""
    tree = sink.tree
    pending = [sink.product.operand, *([sink.product.factor[1]] if sink.product.factor else [])]
    while pending:
        value = pending.pop()
        if value is None or value in stage.members or value not in tree.axes or value in reduced:
            continue
        stage.members.add(value)
        stage.axes[value] = tree.axes[value]
        if value.kind == "contract":
            loops = tree.contractions[value]
            assert value.generic is not None
            features = next(value.generic.extents[d] for d, a in enumerate(loops) if a == len(stage.extents))
            stage.scores.append(Product(value, loops, features))
            continue
        if value.kind == "reduce":
            stage.reductions.append(value)
        pending += value.operands


def _operands(graph: Graph, stage: Attention, reduced: dict[Value, Attention]) -> list[Value]:
    """What a stage reads from outside; cheap values that depend on no score become members."""
    own = set(graph.values)
    operands: dict[Value, None] = {}
    for product in (*stage.scores, *stage.products):
        operands.update((read_by(product.value, k)[0], None) for k in (0, 1) if k != product.scores)
    light: dict[Value, int] = {}
    read = [
        o for member in sorted(stage.members, key=lambda v: v.id) if member.kind != "contract" for o in member.operands
    ]
    for value in (*read, *(product.factor[1] for product in stage.products if product.factor)):
        if value in reduced and value not in stage.members:
            operands[value] = None
        else:
            _add_operand(stage, value, operands, light, own)
    return list(operands)


def _finished(
    graph: Graph, stage: Attention, operands: list[Value], outside: set[Value], inside: dict[Value, Axes]
) -> _Stage:
    """A stage with its operands, and members of its own."""
    results = [scaled_result(graph, product.value) for product in stage.products]
    kept = [v for v in stage.reductions if v in outside]
    copies: dict[Value, Value] = {}
    found = sorted({*stage.members, *(p.value for p in stage.products)}, key=lambda v: v.id)
    for number, member in enumerate(found, -len(found)):  # below all ids of the graph
        copy = replace(member, id=number, operands=tuple(copies.get(o, o) for o in member.operands), users=[])
        copy.peers = (copy,)
        copies[member] = copy
    stage.axes = {copies[value]: axes for value, axes in stage.axes.items()}
    stage.axes.update((value, inside[value]) for value in operands if value in inside)
    stage.scores = sorted((_copied(p, copies) for p in stage.scores), key=lambda p: p.value.id)
    stage.reductions = [copies[v] for v in stage.reductions]
    stage.products = [_copied(p, copies, number) for p, (_, number) in zip(stage.products, results, strict=True)]
    stage.kept = [copies[v] for v in kept]
    stage.members = {copies[v] for v in stage.members}
    stage.operands = operands
    _scale(stage)
    _invert(stage, -len(found))
    summed = [*stage.reductions, *(p.operand for p in stage.products if p.operand is not None)]
    stage.visible = last_visible(stage.members, stage.axes, summed, stage.row, stage.column)
    return _Stage(stage, [*(value for value, _ in results), *kept])


def _scale(stage: Attention) -> None:
    """Where scores are only read times a number, make them so many times what they are, in place."""
    for position, product in enumerate(stage.scores):
        readers = [value for value in stage.members if product.value in value.operands]
        if len(readers) != 1 or any(p.operand is product.value for p in stage.products):
            continue
        (scaled,) = readers
        source, number = unscaled(scaled)
        if source is not product.value or stage.axes[scaled] != stage.axes[source]:
            continue
        became = {scaled: source}
        for value in stage.members:
            value.operands = tuple(became.get(o, o) for o in value.operands)
        stage.members.remove(scaled)
        stage.scores[position] = replace(product, scale=product.scale * number)
        stage.products = [replace(p, operand=source) if p.operand is scaled else p for p in stage.products]


def _invert(stage: Attention, lowest: int) -> None:
    """Divide by what each row has of its own once a row."""

    def is_per_row(value: Value) -> bool:
        axes = stage.axes.get(value.operands[0])
        return axes is not None and stage.column not in axes

    for number, (divisor, inverse) in enumerate(invert_divisors(stage.members, is_per_row).items(), 1):
        inverse.id, inverse.peers = lowest - number, (inverse,)
        stage.members.add(inverse)
        stage.axes[inverse] = stage.axes[divisor]


@dataclass(frozen=True)
class _Stage:
    """A kernel, and the values of the graph that it takes the place of."""

    attention: Attention
    replaced: list[Value]


def _copied(product: Product, copies: dict[Value, Value], scale: float = 1.0) -> Product:
    value = copies[product.value]
    assert value.generic is not None
    operands, maps = list(value.operands), list(value.generic.maps)
    for k in (0, 1):
        if k != product.scores:
            operands[k], maps[k], number = read_by(value, k)
            scale *= number
    value.operands, value.generic = tuple(operands), replace(value.generic, maps=tuple(maps))
    factor = product.factor and (product.factor[0], copies.get(product.factor[1], product.factor[1]))
    operand = product.operand and copies[product.operand]
    return replace(product, value=value, operand=operand, factor=factor, scale=scale)


def _add_operand(
    stage: Attention, value: Value, operands: dict[Value, None], light: dict[Value, int], own: set[Value]
) -> None:
    """Read a value that is no member from a buffer, or compute it in place where that is cheap."""
    if value in stage.members or (value.kind == "constant" and value.splat is not None):
        return
    cost = _cost_in_place(value, own, light, 0)
    if cost <= CHEAP:
        stage.members.add(value)
        for operand in value.operands:
            _add_operand(stage, operand, operands, light, own)
    else:
        operands[value] = None


def _cost_in_place(value: Value, own: set[Value], known: dict[Value, int], depth: int) -> int:
    """Instructions per element to compute a value from buffers, more than `CHEAP` where it cannot be."""
    if value.kind == "constant" and value.splat is not None:
        return 0
    if value not in own or value.kind not in ("map", "reshape") or depth > 16:
        return CHEAP + 1 if depth == 0 else 1
    if value.generic is not None and any(op.regions or op.tensor is not None for op in value.generic.body.ops):
        return CHEAP + 1
    if value not in known:
        known[value] = own_cost(value) + sum(_cost_in_place(o, own, known, depth + 1) for o in value.operands)
    return known[value]


# Rewriting.


def _rewrite(graph: Graph, stages: Sequence[_Stage]) -> None:
    """Put values of kind `attention` in the place of what the stages compute."""
    following = 1 + max((value.id for value in _all_values(graph)), default=0)
    became: dict[Value, Value] = {}
    for stage in stages:
        attention = stage.attention
        made = []
        for value in stage.replaced:
            made.append(Value(following, "attention", value.shape, value.element, location=value.location))
            following += 1
        for value in made:
            value.attention, value.peers = attention, tuple(made)
            value.operands = tuple(became.get(o, o) for o in attention.operands)
        became.update(zip(stage.replaced, made, strict=True))
        graph.values += made
    _replace(graph, became)
    _sort(graph)


def _all_values(graph: Graph) -> Iterable[Value]:
    for value in (*graph.args, *graph.values):
        yield value
        for region in value.regions:
            yield from _all_values(region)


def _replace(graph: Graph, became: dict[Value, Value]) -> None:
    """Every use of a value that became another, in this graph and in the regions below it, is one of that."""
    graph.outputs = [became.get(value, value) for value in graph.outputs]
    graph.captures = [became.get(value, value) for value in graph.captures]
    for value in graph.values:
        value.operands = tuple(became.get(operand, operand) for operand in value.operands)
        value.offsets = tuple(became.get(o, o) if isinstance(o, Value) else o for o in value.offsets)
        for region in value.regions:
            _replace(region, became)


def _sort(graph: Graph) -> None:
    """Order the values so that each comes after what it reads, otherwise as they were; ids follow the order."""
    own = set(graph.values)
    done: set[Value] = set()
    order: list[Value] = []
    for value in graph.values:
        pending = [value]
        while pending:
            current = pending[-1]
            captured = [c for region in current.regions for c in region.captures]
            first = [o for o in (*current.operands, *captured) if o in own and o not in done]
            if current in done or not first:
                pending.pop()
                if current not in done:
                    done.update(current.peers or (current,))
                    order += current.peers or (current,)
            else:
                pending += first
    order = [value for value in order if value in own]
    for number, value in zip(sorted(value.id for value in order), order, strict=True):
        value.id = number
    graph.values = order


def work(attention: Attention) -> int:
    """Products that are added up: a count of multiply-adds."""
    scores = math.prod(attention.extents)
    return scores * sum(product.features for product in (*attention.scores, *attention.products))
