"""`thalweg inspect`: look at ops, passes, programs and their differences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from thalweg.tools.console import err, out, print_lines, table

if TYPE_CHECKING:
    from thalweg.tools.loading import Subject

_HELP = """
Look inside: a program in compact form with your source lines, its stages on a page, what it costs, where its memory is.

**The dialect and the passes**

    thalweg inspect ops                           # every op, by family
    thalweg inspect ops dot_general               # one of them
    thalweg inspect passes

**A program** (model.mlir, an artefact, - or model.py:function)

    thalweg inspect model.py:f                    # compact, with your lines
    thalweg inspect model.py:f --stage linalg
    thalweg inspect model.py:f --html stages.html # all stages side by side
    thalweg inspect model.py:f --cost             # arithmetic and bytes; each kernel against the machine's peaks
    thalweg inspect model.py:f --memory           # the arena's plan
    thalweg inspect graph model.py:f --devices cpu:2     # what each device does, and what they send to each other

**An exported model** (its folder, a library, wasm): signatures, sizes by section, layer and kernel

    thalweg inspect dist
    thalweg inspect dist --memory                 # the arena's plan
    thalweg inspect dist/wasm32 --asm contract    # the code of the kernels of that name

**Two programs**: equal but for names? Exit code 1 if not.

    thalweg inspect diff before.mlir after.mlir
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="inspect", help=_HELP, rich_help_panel="Look inside")(inspect)


def inspect(
    what: str = typer.Argument(..., metavar="WHAT", help="A program, or one of: ops, passes, diff, graph."),
    names: list[str] = typer.Argument(None, metavar="NAMES", help="After ops: ops. After diff, graph: programs."),
    shapes: str = typer.Option("", "--shapes", metavar="TYPES", help="Types of the inputs: f32[2,3],i32[4]."),
    stage: str = typer.Option("", "--stage", metavar="STAGE", help="tw, tw-optimized, stablehlo or linalg."),
    html: str = typer.Option("", "--html", metavar="FILE", help="Write a page with all stages side by side."),
    cost: bool = typer.Option(False, "--cost", help="Arithmetic and bytes of ops; kernels against a roofline."),
    memory: bool = typer.Option(False, "--memory", help="The memory plan of the compiled program."),
    asm: str = typer.Option("", "--asm", metavar="NAME", help="An exported model: the code of functions of that name."),
    devices: str = typer.Option("", "--devices", metavar="LIST", help="graph: cpu:2, /job:ps/task:0..1/cpu:0."),
    every: bool = typer.Option(False, "--all", help="diff: show what is equal, too."),
) -> None:
    """Choose the view."""
    from thalweg.tools import inspect_artefact

    names = names or []
    if what == "ops":
        _ops(names)
    elif what == "passes":
        from thalweg.tools.opt import list_passes

        list_passes()
    elif what == "diff":
        if len(names) != 2:
            raise typer.BadParameter("takes two programs: thalweg inspect diff a.mlir b.mlir", param_hint="diff")
        _diff(names[0], names[1], shapes, every)
    elif what == "graph":
        if len(names) != 1:
            raise typer.BadParameter("takes a program: thalweg inspect graph model.py:f", param_hint="graph")
        _graph(names[0], shapes, devices)
    elif names:
        raise typer.BadParameter(f"'{names[0]}': one program at a time.", param_hint="NAMES")
    elif inspect_artefact.is_artefact(what):
        inspect_artefact.show(what, memory, asm)
    elif asm:
        raise typer.BadParameter("is for exported models; --html has the code of a program.", param_hint="--asm")
    else:
        _program(what, shapes, stage, html, cost, memory)


def _program(target: str, shapes: str, stage: str, html: str, cost: bool, memory: bool) -> None:
    from thalweg.dialects import context
    from thalweg.dialects.printing import lines
    from thalweg.tools import stages
    from thalweg.tools.costs import cost_table, show_roofline
    from thalweg.tools.loading import LoadError, load

    subject = load(target, shapes)
    with context.entered():
        if html:
            Path(html).write_text(_page(subject), encoding="utf-8")
            out().print(f"{html}: open it in a browser")
        if cost:
            if subject.dialect == "tw":
                out().print(cost_table(subject))
            show_roofline(subject)
        if memory:
            _print_memory(subject)
        if html or cost or memory:
            return
        stage = stage or subject.dialect
        if stage not in stages.WITH_PLACES:
            raise LoadError(f"no compact form of '{stage}': there is one of {', '.join(stages.WITH_PLACES)}.")
        print_lines(lines(stages.module_at(subject, stage)))


def _graph(target: str, shapes: str, devices: str) -> None:
    from thalweg.dialects import context
    from thalweg.tools import stages
    from thalweg.tools.devices import draw
    from thalweg.tools.loading import load

    subject = load(target, shapes)
    with context.entered():
        out().print(draw(stages.parts_at(subject, devices)))


def _page(subject: Subject) -> str:
    from thalweg.tools import page, stages

    modules = stages.WITH_PLACES if subject.dialect == "tw" else stages.WITH_PLACES[2:]
    panes = [page.pane_of_module(s, stages.module_at(subject, s)) for s in modules[:-1]]
    panes.append(page.pane_of_text(modules[-1], stages.text_at(subject, modules[-1], debug_info=True)))
    sources = page.source_panes(panes)
    panes.append(page.pane_of_kernels("kernels", stages.lowered(subject)))
    panes += [page.pane_of_text(s, text) for s, text in stages.texts_at(subject, ("llvm", "asm")).items()]
    return page.render(subject.name, [*sources, *panes])


def _print_memory(subject: Subject) -> None:
    from thalweg.backends.cpu.memory import buffers
    from thalweg.tools import stages

    lowered = stages.lowered(subject)
    arguments = stages.argument_names(subject)
    columns = ("bytes", "where", "offset", "kernels", "made by", "type", "place")
    shown = table(f"Memory of {subject.name}", *columns, right=("bytes", "offset", "kernels"))
    for b in buffers(lowered):
        home = b.kind if b.kind in ("arena", "constant") else f"{b.kind} {b.number}"
        if b.kind == "argument":
            home = [*arguments, *(f"packed {k}" for k in range(b.number + 1))][b.number]
        place = f"{Path(b.where.file).name}:{b.where.line}" if b.where else ""
        offset = f"{b.offset:,}" if b.kind == "arena" else ""
        shown.add_row(f"{b.bytes:,}", home, offset, f"{b.life[0]}-{b.life[1]}", b.made_by, b.type, place)
    out().print(shown)
    arena, least = lowered.plan.arena_bytes, lowered.plan.least_bytes()
    told = f", {arena / least:.2f} times what must be there at one instant" if least else ""
    out().print(f"arena: {arena:,} bytes, allocated once{told}; a call allocates only its results")
    if lowered.signature.preparation is not None:
        packed = lowered.signature.preparation.packed_bytes
        out().print(f"packed: {packed:,} bytes, copies of weights in the order in which kernels read them; made anew "
                    "when one has changed")


def _ops(names: list[str]) -> None:
    from thalweg.dialects import context, opdef
    from thalweg.dialects.diagnostics import VerificationError

    context.get()  # fills the table
    if not names:
        shown = table("Ops of the tw dialect", "family", "op", "operands", "what it does")
        for row in sorted(opdef.rows(), key=lambda r: r.family):
            shown.add_row(row.family, row.name, " ".join(row.operands), row.doc.split(". ")[0].rstrip("."))
        out().print(shown)
    for name in names:
        try:
            _op(opdef.find(name))
        except KeyError as error:
            raise VerificationError(str(error.args[0])) from None


def _op(row: object) -> None:
    from thalweg.dialects.opdef import OpDef, Unsupported

    assert isinstance(row, OpDef)
    attributes = [f"{n}: {k}" + (f" = {row.defaults[n]}" if n in row.defaults else "") for n, k in row.attrs.items()]
    out().print(f"{row.mlir_name}({', '.join(row.operands)})", style="bold")
    out().print(f"  {row.doc}")
    facts = {
        "attributes": ", ".join(attributes),
        "regions": ", ".join(row.regions),
        "dtypes": ", ".join(d.short for d in row.dtypes),
        "effects": "" if row.effects == "pure" else row.effects,
        "reference": f"none: {row.reference.why}" if isinstance(row.reference, Unsupported) else "",
        "defined at": row.defined_at,
    }
    for name, fact in facts.items():
        if fact:
            out().print(f"  {name + ':':<12} {fact}")


def _diff(before: str, after: str, shapes: str, every: bool) -> None:
    from thalweg.dialects import context
    from thalweg.dialects.diff import diff
    from thalweg.tools.loading import load

    old, new = load(before, shapes, as_written=True), load(after, shapes, as_written=True)
    styles = {"same": "", "removed": "red", "added": "green", "operands": "yellow"}
    with context.entered():
        entries = diff(old.module, new.module)
        for entry in entries:
            if every or entry.change != "same":
                out().print(str(entry), style=styles[entry.change])
    if any(e.change != "same" for e in entries):
        err().print(f"{before} and {after} differ")
        raise typer.Exit(1)
    out().print("equal but for names", style="green")
