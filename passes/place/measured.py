"""What was measured of clusters and host ops, shared out among the ops of the program they were made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from thalweg.dialects.devices import parse
from thalweg.dialects.mlir import ir
from thalweg.passes.dependences import DEVICE, name_of
from thalweg.passes.place.costs import Costs, key_of
from thalweg.passes.rewriting import body_of, operations


def averages(runs: Iterable[tuple[str, str, float]]) -> dict[tuple[str, str], float]:
    """Seconds by device and name, from any number of (device, name, seconds)."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for device, name, seconds in runs:
        found[device, name].append(seconds)
    return {key: sum(each) / len(each) for key, each in found.items()}


def shared_out(programs: Iterable[ir.Operation], seconds: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Seconds by what `Costs` knows ops by.

    A cluster is timed as a whole; its ops get shares in proportion to their estimates, so that the sum is right and the
    next placement moves about what was really slow.

    Args:
        programs: of the devices, as `partition` and `cluster` left them (`partition.parts`).
        seconds: by device and name of clusters and host ops, as a trace of steps has them.

    Example:
        >>> costs = shared_out(parts(module), averages((e.device, e.name, (e.end - e.begin) / 1e9) for e in ran))
        >>> Path("costs.json").write_text(json.dumps(costs))      # for place{costs=costs.json}
    """
    estimates = Costs()
    shares: dict[str, list[float]] = defaultdict(list)
    for part in programs:
        device = str(ir.StringAttr(part.attributes[DEVICE]).value)
        kind = parse(device).kind or "CPU"
        *body, _ = operations(body_of(operations(body_of(part))[0]))
        for operation in body:
            measured = seconds.get((device, name_of(operation) or ""))
            if measured is None:
                continue
            ops = operations(body_of(operation))[:-1] if operation.name == "tw.cluster" else [operation]
            guesses = [estimates.seconds(op, kind) for op in ops]
            total = sum(guesses)
            for op, guess in zip(ops, guesses, strict=True):
                if total:
                    shares[key_of(op)].append(measured * guess / total)
    return {key: sum(each) / len(each) for key, each in shares.items() if key}
