"""Convolutions of images with channels last: which kernel they get, if one of those made for them."""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.backends.cpu.emit.alternatives import near_convolution, near_correlation
from thalweg.backends.cpu.emit.convolve import Convolution
from thalweg.backends.cpu.emit.convolve import plan as plan_convolution
from thalweg.backends.cpu.emit.correlate import Correlation
from thalweg.backends.cpu.emit.correlate import plan as plan_correlation
from thalweg.backends.cpu.emit.decision import Decision
from thalweg.backends.cpu.emit.finishing import Epilogue
from thalweg.backends.cpu.emit.nest import Contraction
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.sliding import sliding
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.machine import Machine, machine
from thalweg.backends.cpu.options import CpuOptions


@dataclass(frozen=True)
class Slid:
    """What was written: tiles, bytes of `%scratch`, whether every call repeats some work."""

    tiles: int
    scratch: int
    setup: bool


def takes(value: Value, spec: Contraction, options: CpuOptions) -> bool:
    """Is there a kernel here for a convolution? One that reads outside of its image has no other."""
    form = sliding(value)
    if form is None:
        return False
    planned = plan_correlation if form.weights else plan_convolution
    return planned(form, spec, machine(options), options.worker_count()) is not None


def slid(
    w: ScopedWriter,
    value: Value,
    spec: Contraction,
    target: Machine,
    threads: int,
    epilogue: Epilogue | None,
    decision: Decision,
    light: bool = False,
) -> Slid | None:
    """Write the kernel of a convolution with `w`, or give None: another code generator has to. `light`: is the epilogue
    a few instructions?"""
    form = sliding(value)
    if form is None:
        return None
    if form.weights:
        cut = plan_correlation(form, spec, target, threads)
        if cut is None:
            return None
        cut = decision.take(cut, near_correlation(form, spec, target, threads))
        correlation = Correlation(w, form, spec, target, cut, epilogue)
        correlation.run()
        return Slid(correlation.tiles, correlation.scratch.bytes, False)
    chosen = plan_convolution(form, spec, target, threads)
    if chosen is None:
        return None
    near, width = near_convolution(form, spec, target), chosen.vectors
    # Weights that lie in panels are cut for good.
    chosen = decision.take(
        chosen, lambda cut: (other for other in near(cut) if not spec.rhs.panel or other.vectors == width)
    )
    convolution = Convolution(w, form, spec, target, chosen, epilogue, light)
    convolution.run()
    return Slid(convolution.tiles, convolution.scratch.bytes, convolution.packs)
