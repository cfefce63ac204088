// RUN: thalweg opt %s --pipeline dce | filecheck %s

// Chains of unused ops go in one sweep, unused reads and loops too; writes stay, and so does a branch that writes.

// CHECK-LABEL: func.func @unused
// CHECK-NEXT: %[[W:.*]] = "tw.variable_handle"
// CHECK-NEXT: "tw.assign"(%[[W]], %arg0)
// CHECK-NEXT: "tw.cond"
// CHECK-NEXT: "tw.assign_add"(%[[W]], %arg0)
// CHECK-NEXT: "tw.yield"
// CHECK-NOT: "tw.exp"
// CHECK: return %arg0
func.func @unused(%x: tensor<f32>, %p: tensor<i1>) -> tensor<f32> {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64>, dtype = f32} : () -> !tw.variable<tensor<f32>>
  %0 = "tw.exp"(%x) : (tensor<f32>) -> tensor<f32>
  %1 = "tw.log"(%0) : (tensor<f32>) -> tensor<f32>
  %2 = "tw.read"(%w) : (!tw.variable<tensor<f32>>) -> tensor<f32>
  "tw.assign"(%w, %x) : (!tw.variable<tensor<f32>>, tensor<f32>) -> ()
  %3 = "tw.scan"(%1) ({
  ^bb0(%a: tensor<f32>):
    "tw.yield"(%a) : (tensor<f32>) -> ()
  }) {carried = 1, length = 3} : (tensor<f32>) -> tensor<f32>
  "tw.cond"(%p) ({
    %4 = "tw.exp"(%x) : (tensor<f32>) -> tensor<f32>
    "tw.assign_add"(%w, %x) : (!tw.variable<tensor<f32>>, tensor<f32>) -> ()
    "tw.yield"() : () -> ()
  }, {
    "tw.yield"() : () -> ()
  }) : (tensor<i1>) -> ()
  return %x : tensor<f32>
}
