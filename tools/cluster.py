"""`thalweg cluster`: start, watch and stop clusters of this machine's user."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from thalweg.tools.console import out

if TYPE_CHECKING:
    from thalweg.runtime.cluster.registry import Record

commands = typer.Typer(no_args_is_help=True, help="Start, watch and stop the tasks that steps run on.")

Name = Annotated[str, typer.Argument(help="The cluster's name.")]
DEFAULT = "default"


@commands.command()
def start(
    name: Name = DEFAULT,
    ps: Annotated[int, typer.Option(help="Tasks of the job ps, which keeps parameters.")] = 1,
    workers: Annotated[int, typer.Option(help="Tasks of the job worker.")] = 1,
    address: Annotated[str | None, typer.Option(help="A Ray cluster to join: auto, ray://host:10001.")] = None,
    cpus: Annotated[float, typer.Option(help="Processors that Ray reserves for each task.")] = 0,
    gpus: Annotated[float, typer.Option(help="GPUs that Ray reserves for each task.")] = 0,
    max_restarts: Annotated[int, typer.Option(help="How often a task that died is started again; -1: always.")] = -1,
) -> None:
    """Start a cluster and keep it until Ctrl-C or `thalweg cluster stop`.

    Programs use it as tw.Session(graph, target=tw.Cluster.attach(NAME)).

    Example: thalweg cluster start night --ps 2 --workers 4
    """
    from thalweg.cluster import Cluster

    options = {"address": address, "cpus": cpus, "gpus": gpus, "max_restarts": max_restarts}
    with Cluster(ps, workers, **options) as cluster:  # type: ignore[arg-type]
        over = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):  # only now: Ray puts its own handler there when it starts
            signal.signal(number, lambda *_: over.set())
        cluster.publish(name)
        out().print(f"cluster '{name}' runs: {', '.join(cluster.tasks)}. Ctrl-C stops it.")
        while not over.wait(1.0):
            pass
        out().print(f"cluster '{name}' is being stopped.")


@commands.command()
def status(name: Annotated[str | None, typer.Argument(help="The cluster's name; all by default.")] = None) -> None:
    """What the tasks of a cluster do.

    Example: thalweg cluster status night
    """
    from thalweg.cluster import Cluster
    from thalweg.runtime.cluster.registry import Registry

    registry = Registry()
    names = [name] if name is not None else [n for n in registry.names() if registry.runs(n)]
    if not names:
        out().print("no cluster runs here. Start one: thalweg cluster start --ps 1 --workers 2")
    for each in names:
        with Cluster.attach(each) as cluster:
            out().print(_table(each, cluster.tasks, cluster.health()))


@commands.command()
def logs(
    name: Name = DEFAULT,
    task: Annotated[str, typer.Option(help="One task only: ps/0.")] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.")] = 20,
) -> None:
    """What the tasks of a cluster have printed.

    Example: thalweg cluster logs night --task worker/1 -n 50
    """
    from thalweg.cluster import Cluster
    from thalweg.runtime.cluster.registry import Registry

    record = Registry().read(name)
    wanted = _task(task, record) if task else ""
    with Cluster.attach(name) as cluster:
        health = cluster.health()
    for each, state in health.items():
        if wanted and each != wanted:
            continue
        for path in sorted(Path(record.logs).glob(f"worker-*-{state['pid']}.*")):
            text = [line for line in path.read_text(errors="replace").splitlines() if not _is_rays_own(line)]
            if text:
                out().rule(f"{each} {path.suffix.removeprefix('.')}")
                out().print("\n".join(text[-lines:]), markup=False, highlight=False)


@commands.command()
def trace(
    name: Name = DEFAULT,
    seconds: Annotated[float, typer.Option(help="How long to record.")] = 5.0,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("steps.json"),
) -> None:
    """Record what all tasks do for some seconds, for ui.perfetto.dev or chrome://tracing.

    Example: thalweg cluster trace night --seconds 10 -o steps.json
    """
    from thalweg.cluster import Cluster

    with Cluster.attach(name) as cluster:
        recorded = cluster.trace(seconds)
    recorded.write(output)
    out().print(f"{len(recorded.events)} events of {len(cluster.tasks)} tasks are in {output}.")


@commands.command()
def stop(name: Name = DEFAULT) -> None:
    """Stop a cluster: its tasks, and Ray if it was started for them.

    Example: thalweg cluster stop night
    """
    from thalweg.runtime.cluster.registry import Registry

    record = Registry().read(name)
    os.kill(record.pid, signal.SIGTERM)
    end = time.monotonic() + 30.0
    while record.is_alive and time.monotonic() < end:
        time.sleep(0.1)
    if record.is_alive and Registry().runs(name):
        raise TimeoutError(f"the process {record.pid} that keeps the cluster '{name}' does not end.")
    out().print(f"cluster '{name}' was stopped.")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(commands, name="cluster")


def _table(name: str, tasks: list[str], health: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=f"cluster '{name}'", title_justify="left")
    for column in ("task", "process", "steps", "running", "programs", "variables", "sent", "up"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task in tasks:
        state = health.get(task)
        if state is None:
            table.add_row(task, "[red]gone[/red]")
            continue
        sent = sum(traffic[2] for traffic in state["traffic"].values())
        table.add_row(
            task,
            str(state["pid"]),
            str(state["steps"]),
            str(len(state["running"])),
            str(state["handles"]),
            str(state["variables"]),
            f"{sent / 1e6:.1f} MB",
            f"{time.time() - state['since']:.0f} s",
        )
    return table


def _task(text: str, record: Record) -> str:
    """The full name of a task that is written as ps/0 or in full.

    Raises:
        ValueError: there is none; suggests the nearest.
    """
    from thalweg.dialects.diagnostics import did_you_mean

    known = {f"{job}/{i}": f"/job:{job}/task:{i}" for job, count in record.jobs.items() for i in range(count)}
    if text in known.values():
        return text
    if text not in known:
        nearest = did_you_mean(text, known) or "."
        raise ValueError(f"the cluster has no task '{text}'{nearest} It has {', '.join(known)}.")
    return known[text]


def _is_rays_own(line: str) -> bool:
    return line.startswith((":job_id:", ":actor_name:", ":task_name:"))
