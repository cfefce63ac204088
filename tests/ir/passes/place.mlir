// RUN: thalweg opt %s --pipeline 'place{devices=cpu:3}' --split-input-file | filecheck %s

// What asks for a device gets it. Ops on a variable are where it is, whatever they ask for; the small op between what is
// bound to different devices stays with what it takes; constants go where they are used.

// CHECK-LABEL: func.func @requests
// CHECK: "tw.variable_handle"() {{.*}}tw.device = "/device:CPU:1"
// CHECK: "tw.read"{{.*}}tw.device = "/device:CPU:1"
// CHECK: "tw.constant"() {tw.device = "/device:CPU:1"
// CHECK: "tw.mul"{{.*}}tw.device = "/device:CPU:1"
// CHECK: "tw.exp"{{.*}}tw.device = "/device:CPU:2"
// CHECK: "tw.neg"{{.*}}tw.device = "/device:CPU:2"
// CHECK: "tw.assign"{{.*}}tw.device = "/device:CPU:1"
func.func @requests() {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64: 4>, dtype = f32} : () -> !tw.variable<tensor<4xf32>> loc("@/device:CPU:1"("m.py":1:0))
  %0 = "tw.read"(%w) : (!tw.variable<tensor<4xf32>>) -> tensor<4xf32> loc("@/device:CPU:2"("m.py":2:0))
  %1 = "tw.constant"() {value = dense<2.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %2 = "tw.mul"(%0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %3 = "tw.exp"(%2) : (tensor<4xf32>) -> tensor<4xf32> loc("@/device:CPU:2"("m.py":3:0))
  %4 = "tw.neg"(%3) : (tensor<4xf32>) -> tensor<4xf32>
  "tw.assign"(%w, %4) : (!tw.variable<tensor<4xf32>>, tensor<4xf32>) -> ()
  return
}

// -----

// What takes long and does not depend on each other is spread; what adds the results up stays with one of them.

// CHECK-LABEL: func.func @spread
// CHECK: "tw.dot_general"{{.*}}tw.device = "/device:CPU:0"
// CHECK: "tw.dot_general"{{.*}}tw.device = "/device:CPU:1"
// CHECK: "tw.add"{{.*}}tw.device = "/device:CPU:0"
func.func @spread(%x: tensor<1024x1024xf32>, %y: tensor<1024x1024xf32>) -> tensor<1024x1024xf32> {
  %0 = "tw.dot_general"(%x, %y) {lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, lhs_batch = array<i64>, rhs_batch = array<i64>} : (tensor<1024x1024xf32>, tensor<1024x1024xf32>) -> tensor<1024x1024xf32>
  %1 = "tw.dot_general"(%y, %x) {lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, lhs_batch = array<i64>, rhs_batch = array<i64>} : (tensor<1024x1024xf32>, tensor<1024x1024xf32>) -> tensor<1024x1024xf32>
  %2 = "tw.add"(%0, %1) : (tensor<1024x1024xf32>, tensor<1024x1024xf32>) -> tensor<1024x1024xf32>
  return %2 : tensor<1024x1024xf32>
}

// -----

// A branch whose ops ask for one device is there as a whole; the ops of one that spans devices have a device each.

// CHECK-LABEL: func.func @branches
// CHECK: "tw.cond"
// CHECK-NEXT: "tw.neg"(%arg1) : (tensor<f32>)
// CHECK: {tw.device = "/device:CPU:2"}
// CHECK: "tw.cond"
// CHECK-NEXT: "tw.neg"(%arg1) {tw.device = "/device:CPU:1"}
// CHECK: "tw.exp"(%arg1) {tw.device = "/device:CPU:2"}
// CHECK: {tw.device = "/device:CPU:
func.func @branches(%p: tensor<i1>, %x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = "tw.cond"(%p) ({
    %1 = "tw.neg"(%x) : (tensor<f32>) -> tensor<f32> loc("@cpu:2"("m.py":1:0))
    "tw.yield"(%1) : (tensor<f32>) -> ()
  }, {
    %1 = "tw.exp"(%x) : (tensor<f32>) -> tensor<f32>
    "tw.yield"(%1) : (tensor<f32>) -> ()
  }) : (tensor<i1>) -> tensor<f32>
  %2 = "tw.cond"(%p) ({
    %1 = "tw.neg"(%x) : (tensor<f32>) -> tensor<f32> loc("@cpu:1"("m.py":2:0))
    "tw.yield"(%1) : (tensor<f32>) -> ()
  }, {
    %1 = "tw.exp"(%x) : (tensor<f32>) -> tensor<f32> loc("@cpu:2"("m.py":3:0))
    "tw.yield"(%1) : (tensor<f32>) -> ()
  }) : (tensor<i1>) -> tensor<f32>
  return %0, %2 : tensor<f32>, tensor<f32>
}

// -----

// To be with something, by name.

// CHECK-LABEL: func.func @colocated
// CHECK: "tw.neg"{{.*}}tw.device = "/device:CPU:2", tw.name = "a"
// CHECK: "tw.exp"{{.*}}tw.device = "/device:CPU:2"
func.func @colocated(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = "tw.neg"(%x) {tw.name = "a"} : (tensor<f32>) -> tensor<f32> loc("@cpu:2"("m.py":1:0))
  %1 = "tw.exp"(%x) : (tensor<f32>) -> tensor<f32> loc("@colocate:a"("m.py":2:0))
  return %0, %1 : tensor<f32>, tensor<f32>
}
