// RUN: thalweg opt %s --pipeline constant-fold,dce | filecheck %s
// RUN: thalweg opt %s --pipeline 'constant-fold{most-elements=2},dce' | filecheck %s --check-prefix=FEW

// CHECK-LABEL: func.func @small
// CHECK-NEXT: %[[C:.*]] = "tw.constant"() {value = dense<[2.000000e+00, 3.000000e+00, 4.000000e+00]>
// CHECK-NEXT: return %[[C]]
// FEW-LABEL: func.func @small
// FEW: "tw.sqrt"
func.func @small() -> tensor<3xf32> {
  %0 = "tw.constant"() {value = dense<[4.0, 9.0, 16.0]> : tensor<3xf32>} : () -> tensor<3xf32>
  %1 = "tw.sqrt"(%0) : (tensor<3xf32>) -> tensor<3xf32>
  return %1 : tensor<3xf32>
}

// A number spread over a large shape stays a number, whatever is done to it element by element.

// CHECK-LABEL: func.func @filled
// CHECK-NEXT: %[[C:.*]] = "tw.constant"() {value = dense<6.000000e+00> : tensor<f32>}
// CHECK-NEXT: %[[B:.*]] = "tw.broadcast"(%[[C]]) {{.*}} -> tensor<1000x1000xf32>
// CHECK-NEXT: return %[[B]]
func.func @filled() -> tensor<1000x1000xf32> {
  %0 = "tw.constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "tw.constant"() {value = dense<3.0> : tensor<f32>} : () -> tensor<f32>
  %2 = "tw.broadcast"(%0) {shape = array<i64: 1000, 1000>, dims = array<i64>} : (tensor<f32>) -> tensor<1000x1000xf32>
  %3 = "tw.broadcast"(%1) {shape = array<i64: 1000, 1000>, dims = array<i64>} : (tensor<f32>) -> tensor<1000x1000xf32>
  %4 = "tw.mul"(%2, %3) : (tensor<1000x1000xf32>, tensor<1000x1000xf32>) -> tensor<1000x1000xf32>
  return %4 : tensor<1000x1000xf32>
}

// Neither barriers nor what has effects is folded.

// CHECK-LABEL: func.func @kept
// CHECK: "tw.barrier"
func.func @kept() -> tensor<f32> {
  %0 = "tw.constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "tw.barrier"(%0) : (tensor<f32>) -> tensor<f32>
  return %1 : tensor<f32>
}
