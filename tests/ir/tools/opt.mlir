// RUN: thalweg opt %s -p inline,dce | filecheck %s
// RUN: thalweg opt - --pipeline inline,dce < %s | filecheck %s
// RUN: thalweg opt %s -p inline,dce --compact | filecheck %s --check-prefix=COMPACT
// RUN: thalweg opt %s -p inline,dce --mlir-print-debuginfo | filecheck %s --check-prefix=DEBUG
// RUN: thalweg opt %s -p inline,dce --print-after=dce 2>&1 >/dev/null | filecheck %s --check-prefix=AFTER
// RUN: thalweg opt %s -p inline,dce --print-before-all 2>&1 >/dev/null | filecheck %s --check-prefix=BEFORE
// RUN: thalweg opt %s -p inline,dce --timing 2>&1 >/dev/null | filecheck %s --check-prefix=TIMING
// RUN: thalweg opt %s -p 'inline,mlir(canonicalize)' | filecheck %s --check-prefix=UPSTREAM

// CHECK: func.func @main
// CHECK-NEXT: "tw.exp"
// CHECK-NEXT: return

// COMPACT: func main(%arg0: f32[3]) -> f32[3]:
// COMPACT-NEXT: %0 = exp %arg0 : f32[3] {{.*}}# model.py:3
// COMPACT-NEXT: return %0 {{.*}}# opt.mlir:

// DEBUG: "tw.exp"(%arg0) {{.*}} loc(
// DEBUG: loc("model.py":3:0)

// AFTER-NOT: IR Dump After inline
// AFTER: IR Dump After dce //
// AFTER-NOT: IR Dump

// BEFORE: IR Dump Before inline //
// BEFORE: "tw.call"
// BEFORE: IR Dump Before dce //
// BEFORE-NOT: "tw.call"
// BEFORE: "tw.log"

// TIMING: ms
// TIMING: inline
// TIMING: dce
// TIMING: total

// UPSTREAM: "tw.exp"
// UPSTREAM: "tw.log"

func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = "tw.call"(%x) ({
  ^bb0(%a: tensor<3xf32>):
    %1 = "tw.exp"(%a) : (tensor<3xf32>) -> tensor<3xf32> loc("f"("model.py":3:0))
    %2 = "tw.log"(%a) : (tensor<3xf32>) -> tensor<3xf32>
    "tw.yield"(%1) : (tensor<3xf32>) -> ()
  }) {name = "f"} : (tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}
