// RUN: thalweg opt %s --pipeline functionalize --split-input-file | filecheck %s

// Variables are trailing arguments; those assigned are trailing results, and the argument says which.

// CHECK: func.func @main(%arg0: tensor<f32>, %[[R:.*]]: tensor<f32> {tw.variable = "r"}, %[[W:.*]]: tensor<f32> {tw.alias = 1 : i64, tw.variable = "w"}) -> (tensor<f32>, tensor<f32>) {
// CHECK-NEXT: %[[S:.*]] = "tw.add"(%[[W]], %arg0)
// CHECK-NEXT: %[[T:.*]] = "tw.sub"(%[[S]], %[[R]])
// CHECK-NEXT: return %[[S]], %[[T]]
func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %r = "tw.variable_handle"() {name = "r", shape = array<i64>, dtype = f32} : () -> !tw.variable<tensor<f32>>
  %w = "tw.variable_handle"() {name = "w", shape = array<i64>, dtype = f32} : () -> !tw.variable<tensor<f32>>
  "tw.assign_add"(%w, %x) : (!tw.variable<tensor<f32>>, tensor<f32>) -> ()
  %0 = "tw.read"(%w) : (!tw.variable<tensor<f32>>) -> tensor<f32>
  %1 = "tw.read"(%r) : (!tw.variable<tensor<f32>>) -> tensor<f32>
  "tw.assign_sub"(%w, %1) : (!tw.variable<tensor<f32>>, tensor<f32>) -> ()
  return %0 : tensor<f32>
}

// -----

// CHECK: func.func @main(%arg0: tensor<2xi32>, %arg1: tensor<2x4xf32>, %[[T:.*]]: tensor<9x4xf32> {tw.alias = 0 : i64, tw.variable = "t"}) -> tensor<9x4xf32>
// CHECK-NEXT: "tw.scatter"(%[[T]], %arg0, %arg1) {{.*}}mode = "add"
func.func @main(%i: tensor<2xi32>, %rows: tensor<2x4xf32>) {
  %t = "tw.variable_handle"() {name = "t", shape = array<i64: 9, 4>, dtype = f32} : () -> !tw.variable<tensor<9x4xf32>>
  "tw.scatter_update"(%t, %i, %rows) {mode = "add"} : (!tw.variable<tensor<9x4xf32>>, tensor<2xi32>, tensor<2x4xf32>) -> ()
  return
}
