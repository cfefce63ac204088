"""Any sequence of operations gives what a simple model of a queue gives, which looks through its lists each time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from queue_outcomes import Numbers, Outcome

from thalweg.dialects.diagnostics import CancelledError, OutOfRangeError


@dataclass
class Put:
    outcome: Outcome
    values: list[int]
    total: int
    result: object = None


@dataclass
class Get:
    outcome: Outcome
    count: int
    partial: bool
    result: object = None


@dataclass
class Model:
    """The rules, written down as plainly as can be."""

    capacity: int
    elements: list[int] = field(default_factory=list)
    puts: list[Put] = field(default_factory=list)
    gets: list[Get] = field(default_factory=list)
    closed: bool = False

    def step(self) -> bool:
        """One thing that can happen; False if nothing can."""
        get = self.gets[0] if self.gets else None
        if get is not None and len(self.elements) >= get.count:
            self.take(get, get.count)
            return True
        if self.puts:
            put = self.puts[0]
            room = max(0, self.capacity - len(self.elements))
            fits = len(put.values) <= room or (get is not None and put.total <= self.capacity)
            if fits:
                self.elements += put.values
                put.result = "in"
                self.puts.pop(0)
                return True
            if put.total > self.capacity and (room > 0 or get is not None):
                self.elements.append(put.values[0])
                put.values = put.values[1:]
                return True
            return False
        if get is not None and self.closed:
            if get.partial and self.elements:
                self.take(get, len(self.elements))
            else:
                get.result = OutOfRangeError
                self.gets.pop(0)
            return True
        return False

    def take(self, get: Get, count: int) -> None:
        get.result, self.elements = self.elements[:count], self.elements[count:]
        self.gets.pop(0)

    def settle(self) -> None:
        while self.step():
            pass


class QueueMachine(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 4))
    def start(self, capacity: int) -> None:
        self.numbers = Numbers(capacity)
        self.model = Model(capacity)
        self.operations: list[Put | Get] = []
        self.next = 0

    @rule(count=st.integers(0, 6))
    def put(self, count: int) -> None:
        values = list(range(self.next, self.next + count))
        self.next += count
        put = Put(self.numbers.put(*values), list(values), count)
        if self.model.closed:
            put.result = CancelledError
        else:
            self.model.puts.append(put)
        self.operations.append(put)

    @rule(count=st.integers(0, 6), partial=st.booleans())
    def get(self, count: int, partial: bool) -> None:
        outcome = self.numbers.up_to(count) if partial else self.numbers.many(count)
        get = Get(outcome, count, partial)
        self.model.gets.append(get)
        self.operations.append(get)

    @rule(index=st.integers(0, 100))
    def cancel(self, index: int) -> None:
        self.model.settle()
        waiting = [o for o in self.operations if o.result is None]
        if waiting:
            operation = waiting[index % len(waiting)]
            assert operation.outcome.ticket.cancel(CancelledError("cancelled"))
            operation.result = CancelledError
            line = self.model.puts if isinstance(operation, Put) else self.model.gets
            line.remove(operation)

    @precondition(lambda self: self.next > 8)
    @rule(cancel_pending=st.booleans())
    def close(self, cancel_pending: bool) -> None:
        self.numbers.close(cancel_pending)
        self.model.closed = True
        while cancel_pending and self.model.puts:
            self.model.puts.pop(0).result = CancelledError

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        self.model.settle()
        assert self.numbers.queue.size() == len(self.model.elements)
        for operation in self.operations:
            outcome = operation.outcome
            assert outcome.pending == (operation.result is None)
            assert outcome.calls == (operation.result is not None)
            if isinstance(operation.result, type):
                assert isinstance(outcome.error, operation.result)
            elif isinstance(operation, Get) and operation.result is not None:
                assert np.asarray(outcome.get()[0]).tolist() == operation.result


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
