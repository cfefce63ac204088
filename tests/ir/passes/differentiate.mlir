// RUN: thalweg opt %s --pipeline differentiate | filecheck %s
// RUN: thalweg opt %s --pipeline differentiate --mlir-print-debuginfo | filecheck %s --check-prefix=LOC

// CHECK-LABEL: func.func @tanh
// CHECK-NEXT: %[[Y:.*]] = "tw.tanh"(%arg0)
// CHECK-NEXT: %[[S:.*]] = "tw.mul"(%[[Y]], %[[Y]])
// CHECK: %[[T:.*]] = "tw.sub"(%{{.*}}, %[[S]])
// CHECK-NEXT: %[[D:.*]] = "tw.mul"(%arg1, %[[T]])
// CHECK-NEXT: return %[[Y]], %[[D]]
// A derivative carries the place of the op that it is the derivative of.
// LOC-LABEL: func.func @tanh
// LOC: "tw.mul"(%arg1, %{{.*}}) : {{.*}} loc(#[[PLACE:.*]])
// LOC: #[[PLACE]] = loc("model.py":7:0)
func.func @tanh(%x: tensor<3xf32>, %g: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %0:2 = "tw.vjp"(%x) ({
  ^bb0(%a: tensor<3xf32>):
    %1 = "tw.tanh"(%a) : (tensor<3xf32>) -> tensor<3xf32> loc("model.py":7:0)
    "tw.yield"(%1) : (tensor<3xf32>) -> ()
  }) {aux = 0} : (tensor<3xf32>) -> (tensor<3xf32>, !tw.tape<(tensor<3xf32>) -> tensor<3xf32>>)
  %2 = "tw.pullback"(%0#1, %g) {wrt = array<i64: 0>, rows = array<i64>} : (!tw.tape<(tensor<3xf32>) -> tensor<3xf32>>, tensor<3xf32>) -> tensor<3xf32>
  return %0#0, %2 : tensor<3xf32>, tensor<3xf32>
}

// Only what leads to the operands asked for: the derivative by %w needs no contraction with %w.

// CHECK-LABEL: func.func @only_what_is_wanted
// CHECK: "tw.dot_general"
// CHECK: "tw.dot_general"(%arg0, %arg2) {{.*}}lhs_contract = array<i64: 0>{{.*}}rhs_contract = array<i64: 0>
// CHECK-NOT: "tw.dot_general"
// CHECK-NOT: "tw.transpose"
func.func @only_what_is_wanted(%x: tensor<4x3xf32>, %w: tensor<3x2xf32>, %g: tensor<4x2xf32>) -> (tensor<4x2xf32>, tensor<3x2xf32>) {
  %0:2 = "tw.vjp"(%x, %w) ({
  ^bb0(%a: tensor<4x3xf32>, %b: tensor<3x2xf32>):
    %1 = "tw.dot_general"(%a, %b) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32>
    "tw.yield"(%1) : (tensor<4x2xf32>) -> ()
  }) {aux = 0} : (tensor<4x3xf32>, tensor<3x2xf32>) -> (tensor<4x2xf32>, !tw.tape<(tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32>>)
  %2 = "tw.pullback"(%0#1, %g) {wrt = array<i64: 1>, rows = array<i64>} : (!tw.tape<(tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32>>, tensor<4x2xf32>) -> tensor<3x2xf32>
  return %0#0, %2 : tensor<4x2xf32>, tensor<3x2xf32>
}

// A sparse cotangent of a table: the indices (brought inside) and the rows, never the table.

// CHECK-LABEL: func.func @sparse
// CHECK: "tw.take_rows"
// CHECK: %[[I:.*]] = "tw.clamp"
// CHECK-NEXT: %[[R:.*]] = "tw.reshape"(%arg2)
// CHECK-NEXT: return %[[I]], %[[R]]
func.func @sparse(%table: tensor<1000x4xf32>, %indices: tensor<2xi32>, %g: tensor<2x4xf32>) -> (tensor<2xi32>, tensor<2x4xf32>) {
  %0:2 = "tw.vjp"(%table) ({
  ^bb0(%a: tensor<1000x4xf32>):
    %1 = "tw.take_rows"(%a, %indices) : (tensor<1000x4xf32>, tensor<2xi32>) -> tensor<2x4xf32>
    "tw.yield"(%1) : (tensor<2x4xf32>) -> ()
  }) {aux = 0} : (tensor<1000x4xf32>) -> (tensor<2x4xf32>, !tw.tape<(tensor<1000x4xf32>) -> tensor<2x4xf32>>)
  %2:2 = "tw.pullback"(%0#1, %g) {wrt = array<i64: 0>, rows = array<i64: 2>} : (!tw.tape<(tensor<1000x4xf32>) -> tensor<2x4xf32>>, tensor<2x4xf32>) -> (tensor<2xi32>, tensor<2x4xf32>)
  return %2#0, %2#1 : tensor<2xi32>, tensor<2x4xf32>
}

// Marks go: what they marked is no longer of interest.

// CHECK-LABEL: func.func @marks
// CHECK-NEXT: return %arg0
func.func @marks(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = "tw.stop_gradient"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  %1 = "tw.custom_gradient"(%x, %0) ({
  ^bb0(%g: tensor<3xf32>):
    "tw.yield"(%g) : (tensor<3xf32>) -> ()
  }) {inputs = 1} : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  return %1 : tensor<3xf32>
}
