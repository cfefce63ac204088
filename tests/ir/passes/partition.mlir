// RUN: thalweg opt %s --pipeline 'place{devices=/job:a/task:0/cpu:0;/job:b/task:0..1/cpu:0},partition{compress}' --split-input-file | filecheck %s

// A tensor goes to each device once, however many ops take it there; inputs and constants are had where they are used;
// 32-bit floats are compressed on their way between tasks, other values are not.

// CHECK: module attributes {tw.device = "/job:a/task:0/device:CPU:0", tw.feeds = array<i64: 0>, tw.fetches = array<i64: 1>}
// CHECK-NEXT: func.func @main(%[[X:.*]]: tensor<4xf32>) -> tensor<4xf32>
// CHECK-NEXT: %[[E:.*]] = "tw.exp"(%[[X]])
// CHECK-NEXT: "tw.send"(%[[E]]) {compress = true, edge = "exp/0:0 to /job:b/task:1/device:CPU:0", source = "/job:a/task:0/device:CPU:0", target = "/job:b/task:1/device:CPU:0"}
// CHECK-NEXT: return %[[E]]
// CHECK: module attributes {tw.device = "/job:b/task:1/device:CPU:0", tw.feeds = array<i64: 1>, tw.fetches = array<i64: 0>}
// CHECK-NEXT: func.func @main(%[[Y:.*]]: tensor<4xf32>) -> tensor<4xf32>
// CHECK-NEXT: %[[C:.*]] = "tw.constant"
// CHECK-NEXT: %[[M:.*]] = "tw.mul"(%[[Y]], %[[C]])
// CHECK-NEXT: %[[R:.*]] = "tw.recv"() {compress = true, dtype = f32, edge = "exp/0:0 to /job:b/task:1/device:CPU:0", shape = array<i64: 4>
// CHECK-NEXT: %[[S:.*]] = "tw.sub"(%[[R]], %[[M]])
// CHECK-NEXT: %[[T:.*]] = "tw.add"(%[[R]], %[[S]])
// CHECK-NEXT: return %[[T]]
func.func @main(%x: tensor<4xf32>, %y: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %c = "tw.constant"() {value = dense<2.0> : tensor<4xf32>} : () -> tensor<4xf32> loc("@/job:a"("m.py":1:0))
  %0 = "tw.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32> loc("@/job:a"("m.py":2:0))
  %1 = "tw.mul"(%y, %c) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("@/job:b/task:1"("m.py":3:0))
  %2 = "tw.sub"(%0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("@/job:b/task:1"("m.py":4:0))
  %3 = "tw.add"(%0, %2) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("@/job:b/task:1"("m.py":5:0))
  return %3, %0 : tensor<4xf32>, tensor<4xf32>
}

// -----

// A control edge to another device is the sending of a token.

// CHECK: module attributes {tw.device = "/job:a/task:0/device:CPU:0"
// CHECK: "tw.assign"{{.*}}tw.name = "first"
// CHECK: %[[T:.*]] = "tw.constant"() {value = dense<true>
// CHECK: "tw.send"(%[[T]]) {compress = false, edge = "first to /job:b/task:0/device:CPU:0", {{.*}}tw.after = ["first"]}
// CHECK: module attributes {tw.device = "/job:b/task:0/device:CPU:0"
// CHECK: "tw.recv"() {{.*}}shape = array<i64>, {{.*}}tw.name = "first to /job:b/task:0/device:CPU:0"}
// CHECK: "tw.assign"{{.*}}tw.after = ["first to /job:b/task:0/device:CPU:0"]
// CHECK: "tw.assign"{{.*}}tw.after = ["first to /job:b/task:0/device:CPU:0"]
// CHECK-NOT: "tw.recv"
func.func @main(%x: tensor<4xf32>) {
  %v = "tw.variable_handle"() {name = "v", shape = array<i64: 4>, dtype = f32} : () -> !tw.variable<tensor<4xf32>> loc("@/job:a"("m.py":1:0))
  %w = "tw.variable_handle"() {name = "w", shape = array<i64: 4>, dtype = f32} : () -> !tw.variable<tensor<4xf32>> loc("@/job:b"("m.py":2:0))
  "tw.assign"(%v, %x) {tw.name = "first"} : (!tw.variable<tensor<4xf32>>, tensor<4xf32>) -> ()
  "tw.assign"(%w, %x) {tw.after = ["first"]} : (!tw.variable<tensor<4xf32>>, tensor<4xf32>) -> ()
  "tw.assign"(%w, %x) {tw.after = ["first"]} : (!tw.variable<tensor<4xf32>>, tensor<4xf32>) -> ()
  return
}

// -----

// What is fed and fetched as it is comes from the first device.

// CHECK: module attributes {tw.device = "/job:a/task:0/device:CPU:0", tw.feeds = array<i64: 0>, tw.fetches = array<i64: 0>}
// CHECK-NEXT: func.func @main(%[[X:.*]]: tensor<i32>) -> tensor<i32>
// CHECK-NEXT: return %[[X]]
// CHECK-NOT: module
func.func @main(%x: tensor<i32>) -> tensor<i32> {
  return %x : tensor<i32>
}
