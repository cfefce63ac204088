// RUN: thalweg opt %s --pipeline slim-regions | filecheck %s

// A value that never changes is captured instead of carried; one that nobody needs goes with what computes it.

// CHECK-LABEL: func.func @loop
// CHECK: %[[R:.*]]:2 = "tw.while"(%arg0, %arg1) ({
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<i32>, %{{.*}}: tensor<f32>):
// CHECK: "tw.add"(%{{.*}}, %arg2)
// CHECK-NOT: "tw.exp"
// CHECK: return %[[R]]#1, %arg2
func.func @loop(%i: tensor<i32>, %x: tensor<f32>, %w: tensor<f32>, %z: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:4 = "tw.while"(%i, %x, %w, %z) ({
  ^bb0(%j: tensor<i32>, %a: tensor<f32>, %b: tensor<f32>, %c: tensor<f32>):
    %1 = "tw.constant"() {value = dense<9> : tensor<i32>} : () -> tensor<i32>
    %2 = "tw.less"(%j, %1) : (tensor<i32>, tensor<i32>) -> tensor<i1>
    "tw.yield"(%2) : (tensor<i1>) -> ()
  }, {
  ^bb0(%j: tensor<i32>, %a: tensor<f32>, %b: tensor<f32>, %c: tensor<f32>):
    %1 = "tw.add"(%j, %j) : (tensor<i32>, tensor<i32>) -> tensor<i32>
    %2 = "tw.add"(%a, %b) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    %3 = "tw.exp"(%c) : (tensor<f32>) -> tensor<f32>
    "tw.yield"(%1, %2, %b, %3) : (tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>) -> ()
  }) : (tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>)
  return %0#1, %0#2 : tensor<f32>, tensor<f32>
}

// CHECK-LABEL: func.func @scan
// CHECK-NEXT: %[[R:.*]] = "tw.scan"(%arg1) ({
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<f32>):
// CHECK-NEXT: %[[Y:.*]] = "tw.mul"(%[[X]], %arg0)
// CHECK-NEXT: "tw.yield"(%[[Y]])
// CHECK: {carried = 0 : i64
// CHECK: return %[[R]]
func.func @scan(%w: tensor<f32>, %xs: tensor<5xf32>, %unused: tensor<5xf32>) -> tensor<5xf32> {
  %0:3 = "tw.scan"(%w, %xs, %unused) ({
  ^bb0(%b: tensor<f32>, %x: tensor<f32>, %u: tensor<f32>):
    %1 = "tw.mul"(%x, %b) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    %2 = "tw.exp"(%u) : (tensor<f32>) -> tensor<f32>
    "tw.yield"(%b, %1, %2) : (tensor<f32>, tensor<f32>, tensor<f32>) -> ()
  }) {carried = 1, length = 5} : (tensor<f32>, tensor<5xf32>, tensor<5xf32>) -> (tensor<f32>, tensor<5xf32>, tensor<5xf32>)
  return %0#1 : tensor<5xf32>
}

// CHECK-LABEL: func.func @cond
// CHECK-NEXT: %[[R:.*]] = "tw.cond"
// CHECK: "tw.yield"(%arg1) : (tensor<f32>) -> ()
func.func @cond(%p: tensor<i1>, %x: tensor<f32>) -> tensor<f32> {
  %0:2 = "tw.cond"(%p) ({
    %1 = "tw.exp"(%x) : (tensor<f32>) -> tensor<f32>
    "tw.yield"(%1, %x) : (tensor<f32>, tensor<f32>) -> ()
  }, {
    "tw.yield"(%x, %x) : (tensor<f32>, tensor<f32>) -> ()
  }) : (tensor<i1>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
