// The first NaN is that of the log; the one of the square root is masked by the select.
// RUN: not thalweg run %s --inputs %S/Inputs/minus_one.npz --find-nan > %t 2>&1
// RUN: filecheck %s < %t

// CHECK: masked on the way to the results: model.py:2: in loss(): sqrt made
// CHECK: model.py:4: in loss(): log made the first NaN: 1 of the 2 elements of f32[2] from argument 0 (f32[2] in [-1, 1]).

func.func @main(%x: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>) {
  %zero = "tw.sub"(%x, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %positive = "tw.greater"(%x, %zero) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xi1>
  %root = "tw.sqrt"(%x) : (tensor<2xf32>) -> tensor<2xf32> loc("loss"("model.py":2:0))
  %masked = "tw.select"(%positive, %root, %zero) : (tensor<2xi1>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %log = "tw.log"(%x) : (tensor<2xf32>) -> tensor<2xf32> loc("loss"("model.py":4:0))
  return %masked, %log : tensor<2xf32>, tensor<2xf32>
}
