// RUN: thalweg opt %s --pipeline cse | filecheck %s

// CHECK-LABEL: func.func @equal_ops
// CHECK-NEXT: %[[A:.*]] = "tw.add"(%arg0, %arg1)
// CHECK-NEXT: return %[[A]], %[[A]]
func.func @equal_ops(%x: tensor<f32>, %y: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = "tw.add"(%x, %y) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %1 = "tw.add"(%y, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0, %1 : tensor<f32>, tensor<f32>
}

// Other attributes, another op; order matters where the op does not commute.

// CHECK-LABEL: func.func @not_equal
// CHECK-COUNT-2: "tw.convert"
// CHECK-COUNT-2: "tw.sub"
func.func @not_equal(%x: tensor<i32>, %y: tensor<i32>) -> (tensor<f32>, tensor<f64>, tensor<i32>, tensor<i32>) {
  %0 = "tw.convert"(%x) {dtype = f32} : (tensor<i32>) -> tensor<f32>
  %1 = "tw.convert"(%x) {dtype = f64} : (tensor<i32>) -> tensor<f64>
  %2 = "tw.sub"(%x, %y) : (tensor<i32>, tensor<i32>) -> tensor<i32>
  %3 = "tw.sub"(%y, %x) : (tensor<i32>, tensor<i32>) -> tensor<i32>
  return %0, %1, %2, %3 : tensor<f32>, tensor<f64>, tensor<i32>, tensor<i32>
}

// A region sees what was computed before it, not what another region computed.

// CHECK-LABEL: func.func @regions
// CHECK-NEXT: %[[E:.*]] = "tw.exp"(%arg1)
// CHECK: "tw.cond"
// CHECK-NEXT: "tw.sin"
// CHECK-NEXT: "tw.add"(%[[E]]
// CHECK: }, {
// CHECK-NEXT: "tw.sin"
// CHECK: return %{{.*}}, %[[E]]
func.func @regions(%p: tensor<i1>, %x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = "tw.exp"(%x) : (tensor<f32>) -> tensor<f32>
  %1 = "tw.cond"(%p) ({
    %2 = "tw.sin"(%x) : (tensor<f32>) -> tensor<f32>
    %3 = "tw.exp"(%x) : (tensor<f32>) -> tensor<f32>
    %4 = "tw.add"(%3, %2) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    "tw.yield"(%4) : (tensor<f32>) -> ()
  }, {
    %2 = "tw.sin"(%x) : (tensor<f32>) -> tensor<f32>
    "tw.yield"(%2) : (tensor<f32>) -> ()
  }) : (tensor<i1>) -> tensor<f32>
  return %1, %0 : tensor<f32>, tensor<f32>
}

// What a barrier separates stays separate; reads of a variable may differ.

// CHECK-LABEL: func.func @apart
// CHECK-COUNT-2: "tw.barrier"
// CHECK-COUNT-2: "tw.read"
func.func @apart(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64>, dtype = f32} : () -> !tw.variable<tensor<f32>>
  %0 = "tw.barrier"(%x) : (tensor<f32>) -> tensor<f32>
  %1 = "tw.barrier"(%x) : (tensor<f32>) -> tensor<f32>
  %2 = "tw.read"(%w) : (!tw.variable<tensor<f32>>) -> tensor<f32>
  "tw.assign"(%w, %x) : (!tw.variable<tensor<f32>>, tensor<f32>) -> ()
  %3 = "tw.read"(%w) : (!tw.variable<tensor<f32>>) -> tensor<f32>
  return %0, %1, %2, %3 : tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>
}
