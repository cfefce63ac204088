// What is printed parses back to the same program, locations included.
// RUN: thalweg opt %s --mlir-print-debuginfo -o %t.once
// RUN: thalweg opt %t.once --mlir-print-debuginfo -o %t.twice
// RUN: diff %t.once %t.twice
// RUN: thalweg inspect diff %s %t.twice
// RUN: filecheck %s < %t.twice

// CHECK: "tw.variable_handle"() {dtype = bf16, name = "w", shape = array<i64: 2>} : () -> !tw.variable<tensor<2xbf16>>
// CHECK: "tw.constant"() {value = dense<[1, 2]> : tensor<2xui8>}
// CHECK: !tw.tape<(tensor<3xf32>) -> tensor<f32>>
// CHECK: loc("model.py":7:0)

func.func @main(%x: tensor<3xf32>, %one: tensor<f32>) -> tensor<3xf32> {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64: 2>, dtype = bf16} : () -> !tw.variable<tensor<2xbf16>>
  %v = "tw.read"(%w) : (!tw.variable<tensor<2xbf16>>) -> tensor<2xbf16>
  "tw.assign"(%w, %v) : (!tw.variable<tensor<2xbf16>>, tensor<2xbf16>) -> ()
  %c = "tw.constant"() {value = dense<[1, 2]> : tensor<2xui8>} : () -> tensor<2xui8>
  %y, %tape = "tw.vjp"(%x) ({
  ^bb0(%a: tensor<3xf32>):
    %e = "tw.exp"(%a) : (tensor<3xf32>) -> tensor<3xf32> loc("loss"("model.py":7:0))
    %s = "tw.reduce_sum"(%e) {axes = array<i64: 0>} : (tensor<3xf32>) -> tensor<f32>
    "tw.yield"(%s) : (tensor<f32>) -> ()
  }) : (tensor<3xf32>) -> (tensor<f32>, !tw.tape<(tensor<3xf32>) -> tensor<f32>>)
  %g = "tw.pullback"(%tape, %one) {wrt = array<i64: 0>} : (!tw.tape<(tensor<3xf32>) -> tensor<f32>>, tensor<f32>) -> tensor<3xf32>
  return %g : tensor<3xf32>
}
