// RUN: thalweg opt %s --pipeline cluster --split-input-file | filecheck %s

// Without host ops everything is one cluster; it declares its variables itself.

// CHECK-LABEL: func.func @whole(%arg0: tensor<4xf32>)
// CHECK-NEXT: %[[C:.*]] = "tw.cluster"(%arg0) ({
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<4xf32>):
// CHECK-NEXT: %[[W:.*]] = "tw.variable_handle"
// CHECK-NEXT: %[[V:.*]] = "tw.read"(%[[W]])
// CHECK-NEXT: %[[Y:.*]] = "tw.mul"(%[[X]], %[[V]])
// CHECK-NEXT: "tw.assign"(%[[W]], %[[Y]])
// CHECK-NEXT: "tw.yield"(%[[Y]])
// CHECK-NEXT: }) {tw.name = "cluster/0"} : (tensor<4xf32>) -> tensor<4xf32>
// CHECK-NEXT: return %[[C]]
func.func @whole(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64: 4>, dtype = f32} : () -> !tw.variable<tensor<4xf32>>
  %0 = "tw.read"(%w) : (!tw.variable<tensor<4xf32>>) -> tensor<4xf32>
  %1 = "tw.mul"(%x, %0) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  "tw.assign"(%w, %1) : (!tw.variable<tensor<4xf32>>, tensor<4xf32>) -> ()
  return %1 : tensor<4xf32>
}

// -----

// What does not wait for a value that is received goes first, where another device waits for it. The assignment comes
// after the read, though no data goes from one cluster to the other.

// CHECK-LABEL: func.func @before_and_after
// CHECK: %[[A:.*]] = "tw.cluster"(%arg0)
// CHECK: "tw.read"
// CHECK: "tw.mul"
// CHECK: "tw.send"(%[[A]])
// CHECK: %[[R:.*]] = "tw.recv"
// CHECK: "tw.cluster"(%[[R]])
// CHECK-NOT: "tw.read"
// CHECK: "tw.assign_sub"
// CHECK: {tw.after = ["cluster/0"], tw.name = "cluster/1"}
func.func @before_and_after(%x: tensor<4xf32>) {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64: 4>, dtype = f32} : () -> !tw.variable<tensor<4xf32>>
  %0 = "tw.read"(%w) : (!tw.variable<tensor<4xf32>>) -> tensor<4xf32>
  %1 = "tw.mul"(%x, %0) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  "tw.send"(%1) {edge = "e", source = "/device:CPU:0", target = "/device:CPU:1"} : (tensor<4xf32>) -> ()
  %2 = "tw.recv"() {edge = "f", source = "/device:CPU:1", target = "/device:CPU:0", shape = array<i64: 4>, dtype = f32} : () -> tensor<4xf32>
  "tw.assign_sub"(%w, %2) : (!tw.variable<tensor<4xf32>>, tensor<4xf32>) -> ()
  return
}

// -----

// A variable is read where its value is used; once, if that is in two places: other steps may write in between.

// CHECK-LABEL: func.func @reads
// CHECK: %[[R:.*]] = "tw.recv"
// CHECK: %[[A:.*]]:2 = "tw.cluster"(%arg0)
// CHECK: name = "w"
// CHECK: %[[V:.*]] = "tw.read"
// CHECK-NOT: name = "v"
// CHECK: "tw.yield"(%[[V]]
// CHECK: "tw.send"(%[[A]]#1)
// CHECK: "tw.cluster"(%[[R]], %[[A]]#0)
// CHECK: name = "v"
// CHECK: %[[U:.*]] = "tw.read"
// CHECK: "tw.mul"(%{{.*}}, %[[U]])
func.func @reads(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w = "tw.variable_handle"() {name = "w", shape = array<i64: 4>, dtype = f32} : () -> !tw.variable<tensor<4xf32>>
  %v = "tw.variable_handle"() {name = "v", shape = array<i64: 4>, dtype = f32} : () -> !tw.variable<tensor<4xf32>>
  %0 = "tw.read"(%w) : (!tw.variable<tensor<4xf32>>) -> tensor<4xf32>
  %1 = "tw.read"(%v) : (!tw.variable<tensor<4xf32>>) -> tensor<4xf32>
  %2 = "tw.recv"() {edge = "f", source = "/device:CPU:1", target = "/device:CPU:0", shape = array<i64: 4>, dtype = f32} : () -> tensor<4xf32>
  %3 = "tw.mul"(%x, %0) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  "tw.send"(%3) {edge = "e", source = "/device:CPU:0", target = "/device:CPU:1"} : (tensor<4xf32>) -> ()
  %4 = "tw.mul"(%2, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %5 = "tw.add"(%4, %0) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %5 : tensor<4xf32>
}

// -----

// Ops that wait for different values are apart, unless only the later one needs the earlier; small work on constants
// is done again in each.

// CHECK-LABEL: func.func @chain
// CHECK: %[[P:.*]] = "tw.recv"() {{.*}}edge = "p"
// CHECK: %[[Q:.*]] = "tw.recv"() {{.*}}edge = "q"
// CHECK: %[[R:.*]] = "tw.recv"() {{.*}}edge = "r"
// CHECK: %[[S:.*]] = "tw.cluster"(%[[P]], %[[Q]])
// CHECK: "tw.constant"
// CHECK: "tw.add"
// CHECK: "tw.add"
// CHECK: %[[T:.*]] = "tw.cluster"(%[[R]])
// CHECK: "tw.constant"
// CHECK: return %[[S]], %[[T]]
func.func @chain() -> (tensor<f32>, tensor<f32>) {
  %c = "tw.constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %p = "tw.recv"() {edge = "p", source = "/device:CPU:1", target = "/device:CPU:0", shape = array<i64>, dtype = f32} : () -> tensor<f32>
  %q = "tw.recv"() {edge = "q", source = "/device:CPU:1", target = "/device:CPU:0", shape = array<i64>, dtype = f32} : () -> tensor<f32>
  %r = "tw.recv"() {edge = "r", source = "/device:CPU:1", target = "/device:CPU:0", shape = array<i64>, dtype = f32} : () -> tensor<f32>
  %0 = "tw.add"(%p, %c) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %1 = "tw.add"(%0, %q) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %2 = "tw.add"(%r, %c) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %1, %2 : tensor<f32>, tensor<f32>
}
