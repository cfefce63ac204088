// RUN: thalweg opt %s -p dce -o %t
// RUN: not thalweg inspect diff %s %t | filecheck %s
// RUN: thalweg inspect diff %t %t | filecheck %s --check-prefix=SAME

// CHECK-NOT: exp
// CHECK: -   %0 = log %arg0 : f32[3]
// CHECK-NOT: exp
// SAME: equal but for names

func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %unused = "tw.log"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  %0 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}
