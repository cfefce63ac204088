// RUN: thalweg opt %s --pipeline hoist-state --split-input-file | filecheck %s

// A loop carries the variable that it adds to.

// CHECK-LABEL: func.func @loop
// CHECK: %[[W:.*]] = "tw.variable_handle"
// CHECK-NEXT: %[[V:.*]] = "tw.read"(%[[W]])
// CHECK-NEXT: %[[R:.*]]:2 = "tw.while"(%arg0, %[[V]])
// CHECK: ^bb0(%[[J:.*]]: tensor<i32>, %[[U:.*]]: tensor<f32>):
// CHECK: ^bb0(%[[J]]: tensor<i32>, %[[U]]: tensor<f32>):
// CHECK: %[[S:.*]] = "tw.add"(%[[U]], %arg1)
// CHECK: "tw.yield"(%{{.*}}, %[[S]])
// CHECK: "tw.assign"(%[[W]], %[[R]]#1)
func.func @loop(%i: tensor<i32>, %x: tensor<f32>) -> tensor<i32> {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64>, dtype = f32} : () -> !tw.variable<tensor<f32>>
  %0 = "tw.while"(%i) ({
  ^bb0(%j: tensor<i32>):
    %1 = "tw.constant"() {value = dense<9> : tensor<i32>} : () -> tensor<i32>
    %2 = "tw.less"(%j, %1) : (tensor<i32>, tensor<i32>) -> tensor<i1>
    "tw.yield"(%2) : (tensor<i1>) -> ()
  }, {
  ^bb0(%j: tensor<i32>):
    %1 = "tw.add"(%j, %j) : (tensor<i32>, tensor<i32>) -> tensor<i32>
    "tw.assign_add"(%w, %x) : (!tw.variable<tensor<f32>>, tensor<f32>) -> ()
    "tw.yield"(%1) : (tensor<i32>) -> ()
  }) : (tensor<i32>) -> tensor<i32>
  return %0 : tensor<i32>
}

// -----

// A variable that one branch assigns comes out of both; one that is only read is captured.

// CHECK-LABEL: func.func @branches
// CHECK: %[[A:.*]] = "tw.variable_handle"() {{.*}}name = "a"
// CHECK: %[[B:.*]] = "tw.variable_handle"() {{.*}}name = "b"
// CHECK: %[[VA:.*]] = "tw.read"(%[[A]])
// CHECK: %[[VB:.*]] = "tw.read"(%[[B]])
// CHECK: %[[R:.*]] = "tw.cond"(%arg0) ({
// CHECK-NEXT: %[[S:.*]] = "tw.sub"(%[[VB]], %[[VA]])
// CHECK-NEXT: "tw.yield"(%[[S]])
// CHECK: "tw.yield"(%[[VB]])
// CHECK: "tw.assign"(%[[B]], %[[R]])
// CHECK-NOT: "tw.assign"
func.func @branches(%p: tensor<i1>) {
  %a = "tw.variable_handle"() {name = "a", shape = array<i64>, dtype = f32} : () -> !tw.variable<tensor<f32>>
  "tw.cond"(%p) ({
    %b = "tw.variable_handle"() {name = "b", shape = array<i64>, dtype = f32} : () -> !tw.variable<tensor<f32>>
    %0 = "tw.read"(%a) : (!tw.variable<tensor<f32>>) -> tensor<f32>
    "tw.assign_sub"(%b, %0) : (!tw.variable<tensor<f32>>, tensor<f32>) -> ()
    "tw.yield"() : () -> ()
  }, {
    "tw.yield"() : () -> ()
  }) : (tensor<i1>) -> ()
  return
}

// -----

// The variables of a scan stand between its carry and its rows; those of a vjp come out as values without a derivative.

// CHECK-LABEL: func.func @scan_and_vjp
// CHECK: %[[V:.*]] = "tw.read"
// CHECK: "tw.scan"(%arg0, %[[V]], %arg1) ({
// CHECK-NEXT: ^bb0(%[[C:.*]]: tensor<f32>, %[[U:.*]]: tensor<f32>, %[[X:.*]]: tensor<f32>):
// CHECK: "tw.yield"(%[[X]], %[[C]], %[[U]])
// CHECK: {carried = 2 : i64
// CHECK: %[[Y:.*]]:3 = "tw.vjp"
// CHECK: {aux = 1 : i64}
// CHECK: "tw.assign"(%{{.*}}, %[[Y]]#1)
// CHECK: "tw.pullback"(%[[Y]]#2
func.func @scan_and_vjp(%c: tensor<f32>, %xs: tensor<4xf32>) -> (tensor<4xf32>, tensor<f32>) {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64>, dtype = f32} : () -> !tw.variable<tensor<f32>>
  %0:2 = "tw.scan"(%c, %xs) ({
  ^bb0(%a: tensor<f32>, %x: tensor<f32>):
    %v = "tw.read"(%w) : (!tw.variable<tensor<f32>>) -> tensor<f32>
    "tw.assign"(%w, %a) : (!tw.variable<tensor<f32>>, tensor<f32>) -> ()
    "tw.yield"(%x, %v) : (tensor<f32>, tensor<f32>) -> ()
  }) {carried = 1, length = 4} : (tensor<f32>, tensor<4xf32>) -> (tensor<f32>, tensor<4xf32>)
  %1:2 = "tw.vjp"(%c) ({
  ^bb0(%a: tensor<f32>):
    "tw.assign"(%w, %a) : (!tw.variable<tensor<f32>>, tensor<f32>) -> ()
    "tw.yield"(%a) : (tensor<f32>) -> ()
  }) {aux = 0} : (tensor<f32>) -> (tensor<f32>, !tw.tape<(tensor<f32>) -> tensor<f32>>)
  %2 = "tw.pullback"(%1#1, %c) {wrt = array<i64: 0>, rows = array<i64>} : (!tw.tape<(tensor<f32>) -> tensor<f32>>, tensor<f32>) -> tensor<f32>
  return %0#1, %2 : tensor<4xf32>, tensor<f32>
}
