// An expectation that is not met, and an error that nobody expected, fail; both are told with their lines.
// RUN: not thalweg opt %s --split-input-file --verify-diagnostics 2>&1 | filecheck %s

// CHECK: opt_diagnostics_fail.mlir:[[# @LINE + 1]]: expected error
// expected-error@+1 {{something}}
func.func @main() {
  return
}

// -----

// CHECK: opt_diagnostics_fail.mlir:[[# @LINE + 2]]: unexpected error
func.func @main(%x: tensor<3xf32>) {
  %0 = "tw.add"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  return
}
