// RUN: thalweg opt %s --pipeline lower-checkpoint | filecheck %s
// RUN: thalweg opt %s --pipeline differentiate,simplify,lower-checkpoint,simplify | filecheck %s --check-prefix=AGAIN

// CHECK-LABEL: func.func @opened
// CHECK-NEXT: %[[E:.*]] = "tw.exp"(%arg0)
// CHECK-NEXT: %[[L:.*]] = "tw.sin"(%[[E]])
// CHECK-NEXT: return %[[L]]
func.func @opened(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = "tw.checkpoint"() ({
    %1 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<3xf32>
    %2 = "tw.checkpoint"() ({
      %3 = "tw.sin"(%1) : (tensor<3xf32>) -> tensor<3xf32>
      "tw.yield"(%3) : (tensor<3xf32>) -> ()
    }) : () -> tensor<3xf32>
    "tw.yield"(%2) : (tensor<3xf32>) -> ()
  }) : () -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// What is computed again for the derivative is not merged with the forward computation.

// AGAIN-LABEL: func.func @recomputed
// AGAIN: "tw.exp"(%arg0)
// AGAIN: %[[B:.*]]:2 = "tw.barrier"(%arg0, %arg1)
// AGAIN: "tw.exp"(%[[B]]#0)
func.func @recomputed(%x: tensor<3xf32>, %g: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %0:2 = "tw.vjp"(%x) ({
  ^bb0(%a: tensor<3xf32>):
    %1 = "tw.checkpoint"() ({
      %2 = "tw.exp"(%a) : (tensor<3xf32>) -> tensor<3xf32>
      %3 = "tw.sin"(%2) : (tensor<3xf32>) -> tensor<3xf32>
      "tw.yield"(%3) : (tensor<3xf32>) -> ()
    }) : () -> tensor<3xf32>
    "tw.yield"(%1) : (tensor<3xf32>) -> ()
  }) {aux = 0} : (tensor<3xf32>) -> (tensor<3xf32>, !tw.tape<(tensor<3xf32>) -> tensor<3xf32>>)
  %2 = "tw.pullback"(%0#1, %g) {wrt = array<i64: 0>, rows = array<i64>} : (!tw.tape<(tensor<3xf32>) -> tensor<3xf32>>, tensor<3xf32>) -> tensor<3xf32>
  return %0#0, %2 : tensor<3xf32>, tensor<3xf32>
}
