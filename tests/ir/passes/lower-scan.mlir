// RUN: thalweg opt %s --pipeline lower-scan,simplify | filecheck %s

// CHECK-LABEL: func.func @forward
// CHECK: %[[R:.*]]:3 = "tw.while"(%{{.*}}, %arg0, %{{.*}}) ({
// CHECK-NEXT: ^bb0(%[[I:.*]]: tensor<i32>, %[[A:.*]]: tensor<f32>, %[[S:.*]]: tensor<9xf32>):
// CHECK: "tw.less"(%[[I]], %{{.*}})
// CHECK: ^bb0(%[[I:.*]]: tensor<i32>, %[[A:.*]]: tensor<f32>, %[[S:.*]]: tensor<9xf32>):
// CHECK-NEXT: %[[D:.*]] = "tw.dynamic_slice"(%arg1, %[[I]])
// CHECK-NEXT: %[[X:.*]] = "tw.reshape"(%[[D]])
// CHECK-NEXT: %[[B:.*]] = "tw.add"(%[[A]], %[[X]])
// CHECK: %[[T:.*]] = "tw.dynamic_update_slice"(%[[S]], %{{.*}}, %[[I]])
// CHECK: %[[N:.*]] = "tw.add"(%[[I]], %{{.*}})
// CHECK: "tw.yield"(%[[N]], %[[B]], %[[T]])
// CHECK: return %[[R]]#1, %[[R]]#2
func.func @forward(%c: tensor<f32>, %xs: tensor<9xf32>) -> (tensor<f32>, tensor<9xf32>) {
  %0:2 = "tw.scan"(%c, %xs) ({
  ^bb0(%a: tensor<f32>, %x: tensor<f32>):
    %1 = "tw.add"(%a, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    "tw.yield"(%1, %a) : (tensor<f32>, tensor<f32>) -> ()
  }) {carried = 1, length = 9} : (tensor<f32>, tensor<9xf32>) -> (tensor<f32>, tensor<9xf32>)
  return %0#0, %0#1 : tensor<f32>, tensor<9xf32>
}

// CHECK-LABEL: func.func @backward
// CHECK: "tw.constant"() {value = dense<8> : tensor<i32>}
// CHECK: "tw.greater_equal"
func.func @backward(%c: tensor<f32>, %xs: tensor<9xf32>) -> tensor<f32> {
  %0 = "tw.scan"(%c, %xs) ({
  ^bb0(%a: tensor<f32>, %x: tensor<f32>):
    %1 = "tw.mul"(%a, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    "tw.yield"(%1) : (tensor<f32>) -> ()
  }) {carried = 1, length = 9, reverse = true} : (tensor<f32>, tensor<9xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// One row needs no loop, none needs nothing.

// CHECK-LABEL: func.func @short
// CHECK-NOT: "tw.while"
// CHECK: return %{{.*}}, %arg0
func.func @short(%c: tensor<f32>, %one: tensor<1xf32>, %none: tensor<0xf32>) -> (tensor<f32>, tensor<f32>) {
  %0 = "tw.scan"(%c, %one) ({
  ^bb0(%a: tensor<f32>, %x: tensor<f32>):
    %1 = "tw.mul"(%a, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    "tw.yield"(%1) : (tensor<f32>) -> ()
  }) {carried = 1, length = 1} : (tensor<f32>, tensor<1xf32>) -> tensor<f32>
  %1 = "tw.scan"(%c, %none) ({
  ^bb0(%a: tensor<f32>, %x: tensor<f32>):
    %2 = "tw.mul"(%a, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    "tw.yield"(%2) : (tensor<f32>) -> ()
  }) {carried = 1, length = 0} : (tensor<f32>, tensor<0xf32>) -> tensor<f32>
  return %0, %1 : tensor<f32>, tensor<f32>
}
