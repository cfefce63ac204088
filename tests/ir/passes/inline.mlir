// RUN: thalweg opt %s --pipeline inline | filecheck %s

// Calls in calls, and in regions of other ops, are taken in; names of values and order stay.

// CHECK-LABEL: func.func @nested
// CHECK-NEXT: %[[E:.*]] = "tw.exp"(%arg0)
// CHECK-NEXT: %[[L:.*]] = "tw.log"(%[[E]])
// CHECK-NEXT: return %[[L]], %[[E]]
func.func @nested(%x: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %0:2 = "tw.call"(%x) ({
  ^bb0(%a: tensor<3xf32>):
    %1 = "tw.exp"(%a) : (tensor<3xf32>) -> tensor<3xf32>
    %2 = "tw.call"(%1) ({
    ^bb0(%b: tensor<3xf32>):
      %3 = "tw.log"(%b) : (tensor<3xf32>) -> tensor<3xf32>
      "tw.yield"(%3) : (tensor<3xf32>) -> ()
    }) {name = "g"} : (tensor<3xf32>) -> tensor<3xf32>
    "tw.yield"(%2, %1) : (tensor<3xf32>, tensor<3xf32>) -> ()
  }) {name = "f"} : (tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %0#0, %0#1 : tensor<3xf32>, tensor<3xf32>
}

// CHECK-LABEL: func.func @in_a_branch
// CHECK: "tw.cond"
// CHECK-NEXT: "tw.exp"
// CHECK-NOT: "tw.call"
func.func @in_a_branch(%p: tensor<i1>, %x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = "tw.cond"(%p) ({
    %1 = "tw.call"(%x) ({
    ^bb0(%a: tensor<3xf32>):
      %2 = "tw.exp"(%a) : (tensor<3xf32>) -> tensor<3xf32>
      "tw.yield"(%2) : (tensor<3xf32>) -> ()
    }) {name = "f"} : (tensor<3xf32>) -> tensor<3xf32>
    "tw.yield"(%1) : (tensor<3xf32>) -> ()
  }, {
    "tw.yield"(%x) : (tensor<3xf32>) -> ()
  }) : (tensor<i1>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}
