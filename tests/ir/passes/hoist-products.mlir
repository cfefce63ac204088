// RUN: thalweg opt %s --pipeline hoist-products | filecheck %s

// Rows and state side by side, times one matrix: the rows' part is one product before the scan.

// CHECK-LABEL: func.func @cell
// CHECK: %[[U:.*]] = "tw.slice"(%arg2) {limit = array<i64: 16, 8>
// CHECK-NEXT: %[[V:.*]] = "tw.slice"(%arg2) {limit = array<i64: 24, 8>, start = array<i64: 16, 0>
// CHECK-NEXT: %[[P:.*]] = "tw.dot_general"(%arg1, %[[U]]) {{.*}}lhs_contract = array<i64: 2>{{.*}}-> tensor<9x2x8xf32>
// CHECK-NEXT: "tw.scan"(%arg0, %arg1, %[[P]]) ({
// CHECK-NEXT: ^bb0(%[[A:.*]]: tensor<2x8xf32>, %{{.*}}: tensor<2x16xf32>, %[[R:.*]]: tensor<2x8xf32>):
// CHECK: %[[Q:.*]] = "tw.dot_general"(%[[A]], %[[V]])
// CHECK-NEXT: %[[Z:.*]] = "tw.add"(%[[R]], %[[Q]])
// CHECK-NEXT: "tw.tanh"(%[[Z]])
func.func @cell(%h: tensor<2x8xf32>, %xs: tensor<9x2x16xf32>, %w: tensor<24x8xf32>) -> (tensor<2x8xf32>, tensor<9x2x8xf32>) {
  %0:2 = "tw.scan"(%h, %xs) ({
  ^bb0(%a: tensor<2x8xf32>, %x: tensor<2x16xf32>):
    %1 = "tw.concatenate"(%x, %a) {axis = 1 : i64} : (tensor<2x16xf32>, tensor<2x8xf32>) -> tensor<2x24xf32>
    %2 = "tw.dot_general"(%1, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<2x24xf32>, tensor<24x8xf32>) -> tensor<2x8xf32>
    %3 = "tw.tanh"(%2) : (tensor<2x8xf32>) -> tensor<2x8xf32>
    "tw.yield"(%3, %3) : (tensor<2x8xf32>, tensor<2x8xf32>) -> ()
  }) {carried = 1, length = 9} : (tensor<2x8xf32>, tensor<9x2x16xf32>) -> (tensor<2x8xf32>, tensor<9x2x8xf32>)
  return %0#0, %0#1 : tensor<2x8xf32>, tensor<9x2x8xf32>
}

// Of a product in two parts the one that is only stacked is one product after the scan.

// CHECK-LABEL: func.func @gradient
// CHECK: %[[V:.*]] = "tw.slice"(%arg2) {limit = array<i64: 24, 8>
// CHECK: %[[U:.*]] = "tw.slice"(%arg2) {limit = array<i64: 16, 8>
// CHECK: %[[R:.*]]:2 = "tw.scan"(%arg0, %arg1) ({
// CHECK: %[[Z:.*]] = "tw.mul"
// CHECK-NEXT: %[[B:.*]] = "tw.dot_general"(%[[Z]], %[[V]])
// CHECK-NEXT: "tw.yield"(%[[B]], %[[Z]])
// CHECK: %[[D:.*]] = "tw.dot_general"(%[[R]]#1, %[[U]]) {{.*}}-> tensor<9x2x16xf32>
// CHECK-NEXT: return %[[R]]#0, %[[D]]
func.func @gradient(%g: tensor<2x8xf32>, %zs: tensor<9x2x8xf32>, %w: tensor<24x8xf32>) -> (tensor<2x8xf32>, tensor<9x2x16xf32>) {
  %0:2 = "tw.scan"(%g, %zs) ({
  ^bb0(%a: tensor<2x8xf32>, %z: tensor<2x8xf32>):
    %1 = "tw.mul"(%a, %z) : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
    %2 = "tw.dot_general"(%1, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<2x8xf32>, tensor<24x8xf32>) -> tensor<2x24xf32>
    %3 = "tw.slice"(%2) {start = array<i64: 0, 0>, limit = array<i64: 2, 16>, strides = array<i64: 1, 1>} : (tensor<2x24xf32>) -> tensor<2x16xf32>
    %4 = "tw.slice"(%2) {start = array<i64: 0, 16>, limit = array<i64: 2, 24>, strides = array<i64: 1, 1>} : (tensor<2x24xf32>) -> tensor<2x8xf32>
    "tw.yield"(%4, %3) : (tensor<2x8xf32>, tensor<2x16xf32>) -> ()
  }) {carried = 1, length = 9, reverse = true} : (tensor<2x8xf32>, tensor<9x2x8xf32>) -> (tensor<2x8xf32>, tensor<9x2x16xf32>)
  return %0#0, %0#1 : tensor<2x8xf32>, tensor<9x2x16xf32>
}

// What depends on the state stays; so do short sums, and products with what the loop makes.

// CHECK-LABEL: func.func @stays
// CHECK-NEXT: %{{.*}}:2 = "tw.scan"(%arg0, %arg1)
// CHECK-COUNT-3: "tw.dot_general"
// CHECK: "tw.yield"
func.func @stays(%h: tensor<8xf32>, %xs: tensor<9x4xf32>, %w: tensor<8x8xf32>, %v: tensor<4x8xf32>) -> (tensor<8xf32>, tensor<9xf32>) {
  %0:2 = "tw.scan"(%h, %xs) ({
  ^bb0(%a: tensor<8xf32>, %x: tensor<4xf32>):
    %1 = "tw.dot_general"(%a, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>} : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
    %2 = "tw.dot_general"(%x, %v) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>} : (tensor<4xf32>, tensor<4x8xf32>) -> tensor<8xf32>
    %3 = "tw.add"(%1, %2) : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
    %4 = "tw.dot_general"(%3, %a) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>} : (tensor<8xf32>, tensor<8xf32>) -> tensor<f32>
    "tw.yield"(%3, %4) : (tensor<8xf32>, tensor<f32>) -> ()
  }) {carried = 1, length = 9} : (tensor<8xf32>, tensor<9x4xf32>) -> (tensor<8xf32>, tensor<9xf32>)
  return %0#0, %0#1 : tensor<8xf32>, tensor<9xf32>
}
