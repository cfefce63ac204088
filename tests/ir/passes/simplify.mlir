// RUN: thalweg opt %s --pipeline simplify | filecheck %s
// RUN: thalweg opt %s --pipeline 'simplify{max-iterations=1}' | filecheck %s --check-prefix=ONCE

// Folding makes the one, the law drops the product, cse merges what is left.

// CHECK-LABEL: func.func @together
// CHECK-NEXT: %[[E:.*]] = "tw.exp"(%arg0)
// CHECK-NEXT: %[[A:.*]] = "tw.add"(%[[E]], %[[E]])
// CHECK-NEXT: return %[[A]]
func.func @together(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = "tw.constant"() {value = dense<0.0> : tensor<3xf32>} : () -> tensor<3xf32>
  %1 = "tw.exp"(%0) : (tensor<3xf32>) -> tensor<3xf32>
  %2 = "tw.mul"(%1, %x) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  %3 = "tw.exp"(%2) : (tensor<3xf32>) -> tensor<3xf32>
  %4 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  %5 = "tw.add"(%3, %4) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  return %5 : tensor<3xf32>
}

// ONCE-LABEL: func.func @together
// ONCE: "tw.mul"
