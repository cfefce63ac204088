// RUN: thalweg opt %s --pipeline 'lower-control{all=true}' | filecheck %s
// RUN: thalweg opt %s --pipeline lower-control | filecheck %s --check-prefix=KEEP

// What stays on one device stays as it is.
// KEEP-LABEL: func.func @branch
// KEEP: "tw.cond"
// KEEP-LABEL: func.func @devices
// KEEP-NOT: "tw.while"
// KEEP-LABEL: func.func @host
// KEEP-NOT: "tw.cond"

// CHECK-LABEL: func.func @branch
// CHECK-NEXT: %[[S:.*]]:2 = "tw.switch"(%arg1, %arg0)
// CHECK-NEXT: %[[A:.*]] = "tw.neg"(%[[S]]#1)
// CHECK-NEXT: %[[B:.*]] = "tw.exp"(%[[S]]#0)
// CHECK-NEXT: %[[M:.*]]:2 = "tw.merge"(%[[B]], %[[A]])
// CHECK-NEXT: return %[[M]]#0
func.func @branch(%p: tensor<i1>, %x: tensor<f32>) -> tensor<f32> {
  %0 = "tw.cond"(%p) ({
    %1 = "tw.neg"(%x) : (tensor<f32>) -> tensor<f32>
    "tw.yield"(%1) : (tensor<f32>) -> ()
  }, {
    %1 = "tw.exp"(%x) : (tensor<f32>) -> tensor<f32>
    "tw.yield"(%1) : (tensor<f32>) -> ()
  }) : (tensor<i1>) -> tensor<f32>
  return %0 : tensor<f32>
}

// A constant that a branch gives is made outside, and switched.
// CHECK-LABEL: func.func @constant
// CHECK: %[[C:.*]] = "tw.constant"
// CHECK: %[[S:.*]]:2 = "tw.switch"(%[[C]], %arg0)
// CHECK: "tw.merge"(%{{.*}}#0, %[[S]]#1)
func.func @constant(%p: tensor<i1>, %x: tensor<f32>) -> tensor<f32> {
  %0 = "tw.cond"(%p) ({
    %1 = "tw.constant"() {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
    "tw.yield"(%1) : (tensor<f32>) -> ()
  }, {
    "tw.yield"(%x) : (tensor<f32>) -> ()
  }) : (tensor<i1>) -> tensor<f32>
  return %0 : tensor<f32>
}

// The counter goes round; what does not change enters once and for all.
// CHECK-LABEL: func.func @loop
// CHECK: %[[E:.*]] = "tw.enter"(%arg0) {constant = false, frame = "while_0", parallel_iterations = 3 : i64}
// CHECK: %[[N:.*]] = "tw.next_iteration_source"() {{.*}}name = "while_0/0"
// CHECK: %[[M:.*]]:2 = "tw.merge"(%[[E]], %[[N]]) {tw.frame = "while_0", tw.name = "while_0/gate"}
// CHECK: %[[K:.*]] = "tw.enter"(%arg1) {constant = true
// CHECK: %[[P:.*]] = "tw.less"(%[[M]]#0, %[[K]])
// CHECK: %[[L:.*]] = "tw.loop_cond"(%[[P]])
// CHECK: %[[S:.*]]:2 = "tw.switch"(%[[M]]#0, %[[L]])
// CHECK: %[[T:.*]]:2 = "tw.switch"(%[[K]], %[[L]])
// CHECK: %[[A:.*]] = "tw.add"(%[[S]]#1, %[[T]]#1)
// CHECK: "tw.next_iteration_sink"(%[[A]]) {name = "while_0/0"
// CHECK: %[[X:.*]] = "tw.exit"(%[[S]]#0) {frame = "while_0"
// CHECK: return %[[X]], %arg1
func.func @loop(%x: tensor<f32>, %n: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:2 = "tw.while"(%x, %n) ({
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    %1 = "tw.less"(%a, %b) : (tensor<f32>, tensor<f32>) -> tensor<i1>
    "tw.yield"(%1) : (tensor<i1>) -> ()
  }, {
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    %1 = "tw.add"(%a, %b) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    "tw.yield"(%1, %b) : (tensor<f32>, tensor<f32>) -> ()
  }) {parallel_iterations = 3 : i64} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

// Rows that only another scan reads stay on the stack.
// CHECK-LABEL: func.func @scans
// CHECK: %[[S:.*]] = "tw.stack"() {{.*}}length = 9
// CHECK: %[[H:.*]] = "tw.enter"(%[[S]]) {constant = false, frame = "while_0"
// CHECK: %[[W:.*]] = "tw.stack_write"(%{{.*}}, %{{.*}}, %{{.*}})
// CHECK: "tw.next_iteration_sink"(%[[W]])
// CHECK: %[[X:.*]] = "tw.exit"
// CHECK-NOT: "tw.stack_all"
// CHECK: "tw.stack_read"(%{{.*}}, %{{.*}}) {last = true
func.func @scans(%c: tensor<f32>, %xs: tensor<9xf32>) -> tensor<f32> {
  %0:2 = "tw.scan"(%c, %xs) ({
  ^bb0(%a: tensor<f32>, %x: tensor<f32>):
    %2 = "tw.add"(%a, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    "tw.yield"(%2, %a) : (tensor<f32>, tensor<f32>) -> ()
  }) {carried = 1, length = 9} : (tensor<f32>, tensor<9xf32>) -> (tensor<f32>, tensor<9xf32>)
  %1 = "tw.scan"(%0#0, %0#1) ({
  ^bb0(%a: tensor<f32>, %x: tensor<f32>):
    %2 = "tw.mul"(%a, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    "tw.yield"(%2) : (tensor<f32>) -> ()
  }) {carried = 1, length = 9, reverse = true} : (tensor<f32>, tensor<9xf32>) -> tensor<f32>
  return %1 : tensor<f32>
}

// The device that only computes in the body gets a control loop with a token.
// CHECK-LABEL: func.func @devices
// CHECK: "tw.merge"{{.*}}tw.name = "while_0/gate/device:CPU:0"
// CHECK: "tw.merge"{{.*}}tw.name = "while_0/gate/device:CPU:1"
// CHECK: "tw.next_iteration_sink"{{.*}}name = "while_0/token/device:CPU:1"
func.func @devices(%x: tensor<f32>) -> tensor<f32> {
  %0 = "tw.while"(%x) ({
  ^bb0(%a: tensor<f32>):
    %1 = "tw.constant"() {value = dense<9.0> : tensor<f32>} : () -> tensor<f32> loc("@/device:CPU:0"("f.py":1:0))
    %2 = "tw.less"(%a, %1) : (tensor<f32>, tensor<f32>) -> tensor<i1> loc("@/device:CPU:0"("f.py":1:0))
    "tw.yield"(%2) : (tensor<i1>) -> ()
  }, {
  ^bb0(%a: tensor<f32>):
    %1 = "tw.exp"(%a) : (tensor<f32>) -> tensor<f32> loc("@/device:CPU:1"("f.py":2:0))
    %2 = "tw.add"(%a, %1) : (tensor<f32>, tensor<f32>) -> tensor<f32> loc("@/device:CPU:0"("f.py":3:0))
    "tw.yield"(%2) : (tensor<f32>) -> ()
  }) : (tensor<f32>) -> tensor<f32> loc("@/device:CPU:0"("f.py":1:0))
  return %0 : tensor<f32>
}

// What is to come after a branch comes after what the branch does.
// CHECK-LABEL: func.func @host
// CHECK: "tw.pivot"(%{{.*}}#1) {tw.after = ["inner"]}
// CHECK: "tw.merge"{{.*}}tw.name = "outer"
// CHECK: "tw.pivot"(%arg1) {tw.after = ["outer"]
func.func @host(%p: tensor<i1>, %x: tensor<f32>) -> tensor<f32> {
  "tw.cond"(%p) ({
    %1 = "tw.pivot"(%x) {tw.name = "inner"} : (tensor<f32>) -> tensor<f32>
    "tw.yield"() : () -> ()
  }, {
    "tw.yield"() : () -> ()
  }) {tw.name = "outer"} : (tensor<i1>) -> ()
  %0 = "tw.pivot"(%x) {tw.after = ["outer"]} : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
