// RUN: thalweg opt %s --pipeline hoist-sums | filecheck %s

// The rows of one factor are there, those of the other are stacked; the sum over rows is one contraction.

// CHECK-LABEL: func.func @products
// CHECK-NEXT: %[[R:.*]]:2 = "tw.scan"(%arg1, %arg2) ({
// CHECK-NEXT: ^bb0(%[[H:.*]]: tensor<2xf32>, %[[X:.*]]: tensor<3xf32>):
// CHECK-NEXT: %[[Y:.*]] = "tw.exp"(%[[H]])
// CHECK-NEXT: "tw.yield"(%[[Y]], %[[H]])
// CHECK: {carried = 1 : i64
// CHECK: %[[D:.*]] = "tw.dot_general"(%[[R]]#1, %arg2) {{.*}}lhs_contract = array<i64: 0>{{.*}}rhs_contract = array<i64: 0>
// CHECK-NEXT: %[[S:.*]] = "tw.add"(%arg0, %[[D]])
// CHECK-NEXT: return %[[S]], %[[R]]#0
func.func @products(%zero: tensor<2x3xf32>, %h: tensor<2xf32>, %xs: tensor<9x3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>) {
  %0:2 = "tw.scan"(%zero, %h, %xs) ({
  ^bb0(%a: tensor<2x3xf32>, %b: tensor<2xf32>, %x: tensor<3xf32>):
    %1 = "tw.exp"(%b) : (tensor<2xf32>) -> tensor<2xf32>
    %2 = "tw.dot_general"(%b, %x) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64>, rhs_contract = array<i64>} : (tensor<2xf32>, tensor<3xf32>) -> tensor<2x3xf32>
    %3 = "tw.add"(%a, %2) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    "tw.yield"(%3, %1) : (tensor<2x3xf32>, tensor<2xf32>) -> ()
  }) {carried = 2, length = 9} : (tensor<2x3xf32>, tensor<2xf32>, tensor<9x3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>)
  return %0#0, %0#1 : tensor<2x3xf32>, tensor<2xf32>
}

// A sum that the body looks at stays, and so does one whose factors are larger than it.

// CHECK-LABEL: func.func @stays
// CHECK: "tw.scan"
// CHECK: {carried = 2 : i64
func.func @stays(%zero: tensor<f32>, %xs: tensor<9x3xf32>) -> (tensor<f32>, tensor<f32>) {
  %0:2 = "tw.scan"(%zero, %zero, %xs) ({
  ^bb0(%a: tensor<f32>, %c: tensor<f32>, %x: tensor<3xf32>):
    %1 = "tw.reduce_sum"(%x) {axes = array<i64: 0>} : (tensor<3xf32>) -> tensor<f32>
    %2 = "tw.mul"(%a, %1) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    %3 = "tw.add"(%a, %2) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    %4 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<3xf32>
    %5 = "tw.reduce_sum"(%4) {axes = array<i64: 0>} : (tensor<3xf32>) -> tensor<f32>
    %6 = "tw.add"(%c, %5) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    "tw.yield"(%3, %6) : (tensor<f32>, tensor<f32>) -> ()
  }) {carried = 2, length = 9} : (tensor<f32>, tensor<f32>, tensor<9x3xf32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}
