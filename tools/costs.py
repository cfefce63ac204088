"""`thalweg inspect --cost`: what a program has to do, op by op, and how near its kernels come to the machine's best."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from thalweg.backends.cpu.peaks import Peaks
from thalweg.compiler import optimized
from thalweg.dialects.cost import Cost, costs
from thalweg.dialects.location import Where
from thalweg.tools.console import out, table
from thalweg.tools.execution import Execution
from thalweg.tools.loading import Subject
from thalweg.tools.values import bind


def cost_table(subject: Subject) -> Table:
    """Operations and bytes of the ops of a `tw` program, those of one line together."""
    found = costs(optimized(subject.module))
    flops, moved = sum(c.total_flops for c in found) or 1, sum(c.total_bytes for c in found) or 1
    groups: dict[tuple[str, str, bool], list[Cost]] = {}
    for c in found:
        if c.flops or c.bytes:
            groups.setdefault((c.name, _place(c.where), c.per_iteration), []).append(c)
    rows = [
        (sum(c.total_flops for c in g), sum(c.total_bytes for c in g), sum(c.times for c in g), *key)
        for key, g in groups.items()
    ]
    columns = ("flops", "%", "bytes", "% ", "flops/byte", "runs", "op", "place")
    shown = table(f"Cost of {subject.name}, as tw-optimized; ops of one line together", *columns, right=columns[:6])
    for f, b, runs, name, place, per_iteration in sorted(rows, reverse=True):
        shares = f"{100 * f / flops:.0f}", f"{100 * b / moved:.0f}"
        times = f"{runs}/iteration" if per_iteration else str(runs)
        shown.add_row(f"{f:,}", shares[0], f"{b:,}", shares[1], f"{f / b:.2f}" if b else "", times, name, place)
    totals = sum(row[0] for row in rows), sum(row[1] for row in rows)
    shown.add_row(f"{totals[0]:,}", "100", f"{totals[1]:,}", "100", "", "", "total", "", style="bold")
    return shown


def show_roofline(subject: Subject) -> None:
    """Run the program on its examples, or random numbers, and print its kernels beside their bounds."""
    bounds, peaks = Execution(subject, *bind(subject, {}, 0, "")).roofline()
    columns = ("flops", "bytes", "flops/byte", "launches", "us", "least us", "roofline", "bound by", "kernel", "place")
    shown = table(f"Kernels of {subject.name}, timed; flops and bytes of one launch", *columns, right=columns[:7])
    for bound in bounds:
        time, work = bound.time, bound.time.work
        shown.add_row(
            f"{work.flops:,}", f"{work.bytes:,}", f"{work.flops / work.bytes:.2f}" if work.bytes else "",
            f"{time.launches:g}", f"{time.seconds * 1e6:.1f}", f"{bound.seconds * 1e6:.1f}", f"{bound.share:.0%}",
            bound.limit, time.kernel, _place(time.where),
        )
    all_of_them, least = sum(b.time.seconds for b in bounds), sum(b.seconds for b in bounds)
    share = f"{least / all_of_them:.0%}" if all_of_them else ""
    sums = f"{all_of_them * 1e6:.1f}", f"{least * 1e6:.1f}"
    shown.add_row("", "", "", "", *sums, share, "", "total", "", style="bold")
    out().print(shown)
    out().print(_told(peaks))


def _told(peaks: Peaks) -> str:
    flops = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {element}" for element, rate in peaks.flops.items())
    first, second, far = (rate / 1e9 for _, rate in peaks.bandwidths)
    return (
        f"roofline: {flops}; {first:,.0f}, {second:,.0f} and {far:,.0f} GB/s from the first cache, the second and "
        f"beyond, on {peaks.threads} thread{'s' if peaks.threads > 1 else ''}, measured now. Over 100%: data was "
        "nearer than its size says."
    )


def _place(where: Where | None) -> str:
    return f"{Path(where.file).name}:{where.line}" if where else ""
