"""The part of a loop that each of its devices has: what tells it when an iteration begins and when there are no more.

A device that holds a value which goes round the loop has that already: the value's enter, merge, switch and sink. A
device that only computes in the body gets a control loop, the same with a token instead of a value. In both cases the
device that owns the predicate sends it to the switch, once per iteration: a few bytes for each device that takes part.

    token = enter(true); begun = merge(token, source)      one token for each iteration that begins here
    over, again = switch(begun, loop_cond)                 the predicate comes from its owner
    sink(again)

The merge is the device's *gate* of the loop: alive once in each iteration, the last one included, in which the body is
dead. What comes from other devices is received behind it, dead or alive, so that sender and receiver agree on how many
values go over an edge.
"""

from __future__ import annotations

from thalweg.dialects.mlir import ir

FRAME = "tw.frame"


def gate_name(frame: str, device: str) -> str:
    """The name of the merge that is a device's gate of a loop."""
    return f"{frame}/gate{device}"


def frame_of(operation: ir.Operation) -> str:
    """The loop whose values are an op's operands, the empty string outside of loops.

    A value that an op takes from another device is sent and received in this frame.
    """
    attributes = operation.attributes
    return str(ir.StringAttr(attributes[FRAME]).value) if FRAME in attributes else ""
