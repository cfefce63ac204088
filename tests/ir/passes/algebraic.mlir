// RUN: thalweg opt %s --pipeline algebraic,dce | filecheck %s

// One law of each kind; every law has its test in tests/unit/passes/test_algebra.py.

// CHECK-LABEL: func.func @times_one
// CHECK-NEXT: return %arg0
func.func @times_one(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = "tw.constant"() {value = dense<1.0> : tensor<3xf32>} : () -> tensor<3xf32>
  %1 = "tw.mul"(%x, %0) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  return %1 : tensor<3xf32>
}

// 0 * NaN is NaN, so only integers vanish.

// CHECK-LABEL: func.func @times_zero
// CHECK: %[[Z:.*]] = "tw.constant"() {value = dense<0> : tensor<3xi32>}
// CHECK: %[[F:.*]] = "tw.mul"
// CHECK-NEXT: return %[[Z]], %[[F]]
func.func @times_zero(%i: tensor<3xi32>, %x: tensor<3xf32>) -> (tensor<3xi32>, tensor<3xf32>) {
  %0 = "tw.constant"() {value = dense<0> : tensor<3xi32>} : () -> tensor<3xi32>
  %1 = "tw.mul"(%i, %0) : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
  %2 = "tw.constant"() {value = dense<0.0> : tensor<3xf32>} : () -> tensor<3xf32>
  %3 = "tw.mul"(%x, %2) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  return %1, %3 : tensor<3xi32>, tensor<3xf32>
}

// CHECK-LABEL: func.func @transposed_operand
// CHECK-NEXT: "tw.dot_general"(%arg0, %arg1) {lhs_batch = array<i64>, lhs_contract = array<i64: 0>,
// CHECK-NOT: "tw.transpose"
func.func @transposed_operand(%x: tensor<3x4xf32>, %y: tensor<3x2xf32>) -> tensor<4x2xf32> {
  %0 = "tw.transpose"(%x) {permutation = array<i64: 1, 0>} : (tensor<3x4xf32>) -> tensor<4x3xf32>
  %1 = "tw.dot_general"(%0, %y) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32>
  return %1 : tensor<4x2xf32>
}

// CHECK-LABEL: func.func @known_branch
// CHECK-NEXT: %[[E:.*]] = "tw.exp"(%arg0)
// CHECK-NEXT: return %[[E]]
func.func @known_branch(%x: tensor<3xf32>) -> tensor<3xf32> {
  %p = "tw.constant"() {value = dense<true> : tensor<i1>} : () -> tensor<i1>
  %0 = "tw.cond"(%p) ({
    %1 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<3xf32>
    "tw.yield"(%1) : (tensor<3xf32>) -> ()
  }, {
    "tw.yield"(%x) : (tensor<3xf32>) -> ()
  }) : (tensor<i1>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}
