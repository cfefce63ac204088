// RUN: thalweg opt %s --pipeline 'differentiate,simplify,place{devices=cpu:2},partition' --print-after-all 2>&1 | filecheck %s

// Passes by name with options in braces, from a traced gradient to one program per device. The derivative of the tanh is
// where the tanh asked to be.

// CHECK: IR Dump After differentiate
// CHECK: IR Dump After place
// CHECK: "tw.tanh"{{.*}}tw.device = "/device:CPU:1"
// CHECK: IR Dump After partition
// CHECK: module attributes {tw.device = "/device:CPU:0", tw.feeds = array<i64: 0>
// CHECK-NEXT: func.func @main(%[[X:.*]]: tensor<4xf32>)
// CHECK-NEXT: %[[E:.*]] = "tw.exp"(%[[X]])
// CHECK-NEXT: "tw.send"(%[[E]])
// CHECK: "tw.recv"
// CHECK: "tw.mul"
// CHECK: module attributes {tw.device = "/device:CPU:1"
// CHECK: %[[R:.*]] = "tw.recv"
// CHECK: %[[T:.*]] = "tw.tanh"(%[[R]])
// CHECK: "tw.mul"(%[[T]], %[[T]])
// CHECK: "tw.send"
func.func @main(%x: tensor<4xf32>, %d: tensor<f32>) -> (tensor<f32>, tensor<4xf32>) {
  %0:2 = "tw.vjp"(%x) ({
  ^bb0(%a: tensor<4xf32>):
    %1 = "tw.exp"(%a) : (tensor<4xf32>) -> tensor<4xf32> loc("@cpu:0"("m.py":1:0))
    %2 = "tw.tanh"(%1) : (tensor<4xf32>) -> tensor<4xf32> loc("@cpu:1"("m.py":2:0))
    %3 = "tw.reduce_sum"(%2) {axes = array<i64: 0>} : (tensor<4xf32>) -> tensor<f32>
    "tw.yield"(%3) : (tensor<f32>) -> ()
  }) {aux = 0} : (tensor<4xf32>) -> (tensor<f32>, !tw.tape<(tensor<4xf32>) -> tensor<f32>>)
  %4 = "tw.pullback"(%0#1, %d) {wrt = array<i64: 0>, rows = array<i64>} : (!tw.tape<(tensor<4xf32>) -> tensor<f32>>, tensor<f32>) -> tensor<4xf32>
  return %0#0, %4 : tensor<f32>, tensor<4xf32>
}
