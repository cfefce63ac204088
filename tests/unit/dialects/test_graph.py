"""Modules as graphs for viewers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from thalweg.dialects import context
from thalweg.dialects.graph import nodes, to_dot, to_json
from thalweg.dialects.mlir import ir
from thalweg.dialects.verify import parse

PROGRAM = """
func.func @main(%x: tensor<3xf32>, %p: tensor<i1>) -> tensor<3xf32> {
  %0 = "tw.cond"(%p) ({
    %1 = "tw.log"(%x) : (tensor<3xf32>) -> tensor<3xf32> loc("model.py":4:0)
    "tw.yield"(%1): (tensor<3xf32>) -> ()
  }, {
    "tw.yield"(%x): (tensor<3xf32>) -> ()
  }) : (tensor<i1>) -> tensor<3xf32>
  %2 = "tw.reshape"(%0) {shape = array<i64: 3>} : (tensor<3xf32>) -> tensor<3xf32>
  return %2 : tensor<3xf32>
}
"""


@pytest.fixture
def module() -> Iterator[ir.Module]:
    with context.entered():
        yield parse(PROGRAM)


def test_nodes_follow_data_through_regions(module: ir.Module) -> None:
    by_label = {n.label: n for n in nodes(module)}
    assert by_label["log"].namespace == "main/cond_3/on_true"
    assert by_label["log"].place == "model.py:4"
    assert [e.source for e in by_label["log"].incoming] == [by_label["arg0"].id]
    sources = [e.source for e in by_label["cond"].incoming]
    assert sources[0] == by_label["arg1"].id
    assert len(sources) == 3, "the predicate, and what each branch yields"
    assert by_label["reshape"].attributes == {"shape": "[3]"}


def test_json_is_what_model_explorer_reads(module: ir.Module) -> None:
    collection = json.loads(to_json(module, "f"))
    found = {n["id"]: n for n in collection["graphs"][0]["nodes"]}
    assert collection["label"] == "f"
    for node in found.values():
        assert {"id", "label", "namespace", "incomingEdges", "outputsMetadata"} <= node.keys()
        assert all(e["sourceNodeId"] in found for e in node["incomingEdges"])
    log = next(n for n in found.values() if n["label"] == "log")
    assert {"key": "source", "value": "model.py:4"} in log["attrs"]
    assert log["outputsMetadata"][0]["attrs"] == [{"key": "tensor_shape", "value": "f32[3]"}]


def test_dot_nests_regions_as_clusters_and_quotes_labels(module: ir.Module) -> None:
    text = to_dot(module, 'a "name"')
    assert text.startswith('digraph "a \\"name\\"" {')
    assert text.count("{") == text.count("}")
    assert 'subgraph "cluster_main/cond_3/on_true" { label="on_true";' in text
    assert '[label="f32[3]", fontsize=9];' in text


PARTS = """
module {
  module attributes {tw.device = "/job:a/task:0/device:CPU:0"} {
    func.func @main(%x: tensor<3xf32>) {
      %0 = "tw.cluster"(%x) ({
      ^bb0(%y: tensor<3xf32>):
        %1 = "tw.exp"(%y) : (tensor<3xf32>) -> tensor<3xf32>
        "tw.yield"(%1) : (tensor<3xf32>) -> ()
      }) {tw.name = "c"} : (tensor<3xf32>) -> tensor<3xf32>
      "tw.send"(%0) {edge = "e", source = "a", target = "b"} : (tensor<3xf32>) -> ()
      "tw.cluster"() ({ "tw.yield"() : () -> () }) {tw.name = "d", tw.after = ["c"]} : () -> ()
      return
    }
  }
  module attributes {tw.device = "/job:b/task:0/device:CPU:0"} {
    func.func @main() -> tensor<3xf32> {
      %0 = "tw.recv"() {edge = "e", source = "a", target = "b", shape = array<i64: 3>, dtype = f32}
        : () -> tensor<3xf32>
      return %0 : tensor<3xf32>
    }
  }
}
"""


def test_devices_are_groups_and_what_is_sent_arrives() -> None:
    with context.entered():
        module = parse(PARTS)
        every = list(nodes(module))
        text = to_dot(module)
        read = json.loads(to_json(module))
    assert len({n.id for n in every}) == len(every)
    (send,) = (n for n in every if n.label == "send")
    (recv,) = (n for n in every if n.label == "recv")
    assert (send.namespace, recv.namespace) == ("job:a/task:0/device:CPU:0", "job:b/task:0/device:CPU:0")
    assert [(e.source, e.kind, e.label) for e in recv.incoming] == [(send.id, "transfer", "f32[3]")]
    first, second = (n for n in every if n.label == "cluster")
    assert [(e.source, e.kind) for e in second.incoming if e.kind == "control"] == [(first.id, "control")]
    assert f'  {send.id} -> {recv.id} [label="f32[3]", fontsize=9, penwidth=2, color=blue];' in text
    assert f'  {first.id} -> {second.id} [label="", fontsize=9, style=dashed];' in text
    assert 'subgraph "cluster_job:a/task:0" { label="task:0";' in text
    (edge,) = next(n for n in read["graphs"][0]["nodes"] if n["label"] == "recv")["incomingEdges"]
    assert edge["metadata"] == [{"key": "kind", "value": "transfer"}]


def test_ops_with_a_device_are_grouped_before_they_are_cut_apart() -> None:
    with context.entered():
        module = parse("""func.func @main(%x: tensor<f32>) {
          %0 = "tw.exp"(%x) {tw.device = "/device:CPU:1"} : (tensor<f32>) -> tensor<f32>
          return
        }""")
        (exp,) = (n for n in nodes(module) if n.label == "exp")
    assert exp.namespace == "main/device:CPU:1"
