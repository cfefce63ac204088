// RUN: thalweg opt %s --pipeline fuse-lookups --split-input-file | filecheck %s

// Rows are looked up in the variable and put there; the table is not read.

// CHECK-LABEL: func.func @rows(%arg0: tensor<4xi32>)
// CHECK-NEXT: %[[W:.*]] = "tw.variable_handle"
// CHECK-NEXT: %[[R:.*]] = "tw.lookup"(%[[W]], %arg0)
// CHECK-NEXT: %[[N:.*]] = "tw.neg"(%[[R]])
// CHECK-NEXT: "tw.update_rows"(%[[W]], %arg0, %[[N]]) {mode = "add", tw.name = "change"}
// CHECK-NEXT: return %[[R]]
func.func @rows(%ids: tensor<4xi32>) -> tensor<4x3xf32> {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64: 9, 3>, dtype = f32} : () -> !tw.variable<tensor<9x3xf32>>
  %0 = "tw.read"(%w) : (!tw.variable<tensor<9x3xf32>>) -> tensor<9x3xf32>
  %1 = "tw.lookup_rows"(%0, %ids) : (tensor<9x3xf32>, tensor<4xi32>) -> tensor<4x3xf32>
  %2 = "tw.neg"(%1) : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %3 = "tw.put_rows"(%0, %ids, %2) {mode = "add"} : (tensor<9x3xf32>, tensor<4xi32>, tensor<4x3xf32>) -> tensor<9x3xf32>
  "tw.assign"(%w, %3) {tw.name = "change"} : (!tw.variable<tensor<9x3xf32>>, tensor<9x3xf32>) -> ()
  return %1 : tensor<4x3xf32>
}

// -----

// What was read before an assignment is what counts.

// CHECK-LABEL: func.func @assigned_between
// CHECK: %[[T:.*]] = "tw.read"
// CHECK-NEXT: "tw.assign"
// CHECK-NEXT: "tw.lookup_rows"(%[[T]]
// CHECK-NEXT: "tw.put_rows"(%[[T]]
// CHECK-NEXT: "tw.assign"
func.func @assigned_between(%ids: tensor<4xi32>, %new: tensor<9x3xf32>) -> tensor<4x3xf32> {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64: 9, 3>, dtype = f32} : () -> !tw.variable<tensor<9x3xf32>>
  %0 = "tw.read"(%w) : (!tw.variable<tensor<9x3xf32>>) -> tensor<9x3xf32>
  "tw.assign"(%w, %new) : (!tw.variable<tensor<9x3xf32>>, tensor<9x3xf32>) -> ()
  %1 = "tw.lookup_rows"(%0, %ids) : (tensor<9x3xf32>, tensor<4xi32>) -> tensor<4x3xf32>
  %2 = "tw.put_rows"(%0, %ids, %1) {mode = "add"} : (tensor<9x3xf32>, tensor<4xi32>, tensor<4x3xf32>) -> tensor<9x3xf32>
  "tw.assign"(%w, %2) : (!tw.variable<tensor<9x3xf32>>, tensor<9x3xf32>) -> ()
  return %1 : tensor<4x3xf32>
}

// -----

// Rows of one variable put into another one: that is no change in place.

// CHECK-LABEL: func.func @of_another
// CHECK: "tw.put_rows"
// CHECK-NEXT: "tw.assign"
func.func @of_another(%ids: tensor<4xi32>, %rows: tensor<4x3xf32>) {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64: 9, 3>, dtype = f32} : () -> !tw.variable<tensor<9x3xf32>>
  %v = "tw.variable_handle"() {name = "v", shape = array<i64: 9, 3>, dtype = f32} : () -> !tw.variable<tensor<9x3xf32>>
  %0 = "tw.read"(%w) : (!tw.variable<tensor<9x3xf32>>) -> tensor<9x3xf32>
  %1 = "tw.put_rows"(%0, %ids, %rows) {mode = "set"} : (tensor<9x3xf32>, tensor<4xi32>, tensor<4x3xf32>) -> tensor<9x3xf32>
  "tw.assign"(%v, %1) : (!tw.variable<tensor<9x3xf32>>, tensor<9x3xf32>) -> ()
  return
}
