// RUN: thalweg opt %s --split-input-file --verify-diagnostics

// expected-error@+2 {{takes operands (lhs, rhs), got 1}}
func.func @main(%x: tensor<3xf32>) {
  %0 = "tw.add"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @main(%x: tensor<3xf32>) {
  // expected-error@below {{is not an op of the tw dialect; did you mean 'add'?}}
  %0 = "tw.addd"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  return
}

// -----

module {
  // expected-error-re@+1 {{custom op .* is unknown}}
  foo
}

// -----

func.func @main(%x: tensor<3xf32>) {
  // expected-error@unknown {{model.py:7: 'tw.exp' op}}
  %0 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<4xf32> loc("model.py":7:0)
  return
}

// -----

func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  return %x : tensor<3xf32>
}
