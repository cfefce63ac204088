"""Dropping what is dead, and who uses what."""

from __future__ import annotations

from thalweg.backends.cpu.graph import Graph, Value, drop_dead


def test_a_loop_is_one_user_of_each_operand_however_many_results_it_has() -> None:
    arguments = [Value(k, "arg", (), "f32") for k in range(3)]
    inner = [Value(10 + k, "arg", (), "f32") for k in range(3)]
    total = Value(20, "map", (), "f32", (inner[0], arguments[0]))
    region = Graph(inner, [total], [total, inner[1], inner[2]])
    loop = [Value(30 + k, "control", (), "f32", tuple(arguments), regions=(region,)) for k in range(3)]
    for value in loop:
        value.peers = tuple(loop)
    graph = Graph(arguments, loop, [loop[2]])
    drop_dead(graph)
    assert graph.values == loop  # one live result keeps its peers
    assert region.captures == [arguments[0]]
    assert inner[0].users == [total]
    assert arguments[1].users == [loop[0]]


def test_what_no_output_needs_is_dropped() -> None:
    x = Value(0, "arg", (), "f32")
    used, dead = Value(1, "map", (), "f32", (x,)), Value(2, "map", (), "f32", (x,))
    graph = Graph([x], [used, dead], [used])
    drop_dead(graph)
    assert graph.values == [used]
    assert x.users == [used]
