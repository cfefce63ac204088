// One case for each rule of the verifier (dialects/verify.py); the rows' own rules are tested in tests/unit/dialects/ops.
// RUN: thalweg opt %s --split-input-file --verify-diagnostics

func.func @main(%x: tensor<3xf32>) {
  // expected-error@+1 {{'tw.addd' op is not an op of the tw dialect; did you mean 'add'?}}
  %0 = "tw.addd"(%x, %x) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @main(%x: tensor<3xf32>) {
  // expected-error@+1 {{'tw.add' op takes operands (lhs, rhs), got 1.}}
  %0 = "tw.add"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @main(%x: tensor<3xf32>) {
  // expected-error@+1 {{'tw.reshape' op attribute 'shape' is missing.}}
  %0 = "tw.reshape"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @main(%x: tensor<3xf32>) {
  // expected-error@+1 {{'tw.reshape' op attribute 'shape' must be of kind ints}}
  %0 = "tw.reshape"(%x) {shape = "three"} : (tensor<3xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @main(%x: tensor<3xf32>) {
  // expected-error@+1 {{'tw.exp' op has result types (f32[4]), but its operands give (f32[3])}}
  %0 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @main(%x: tensor<3xf32>) {
  // expected-error@+1 {{'tw.exp' op has result types (), but its operands give (f32[3])}}
  "tw.exp"(%x) : (tensor<3xf32>) -> ()
  return
}

// -----

func.func @main(%x: tensor<?xf32>) {
  // expected-error@+1 {{type tensor<?xf32> has a dynamic dimension; tw tensors have static shapes}}
  %0 = "tw.exp"(%x) : (tensor<?xf32>) -> tensor<?xf32>
  return
}

// -----

func.func @main(%x: tensor<3xcomplex<f32>>) {
  // expected-error@+1 {{element type complex<f32> is not one of}}
  %0 = "tw.neg"(%x) : (tensor<3xcomplex<f32>>) -> tensor<3xcomplex<f32>>
  return
}

// -----

func.func @main(%p: tensor<i1>) {
  // expected-error@+1 {{'tw.cond' op has 1 regions, expected 2 (on_true, on_false)}}
  "tw.cond"(%p) ({
    "tw.yield"() : () -> ()
  }) : (tensor<i1>) -> ()
  return
}

// -----

func.func @main(%p: tensor<i1>, %x: tensor<3xf32>) {
  // expected-error@+1 {{'tw.cond' op region 'on_false' must be one block that ends in tw.yield}}
  "tw.cond"(%p) ({
    "tw.yield"() : () -> ()
  }, {
    %0 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  }) : (tensor<i1>) -> ()
  return
}

// -----

// What is wrong inside a region is found, and told with the place that the op carries.
func.func @main(%p: tensor<i1>, %x: tensor<3xf32>) {
  // expected-error@unknown {{model.py:7: in loss(): 'tw.exp' op not defined for i32}}
  "tw.cond"(%p) ({
    %i = "tw.convert"(%x) {dtype = i32} : (tensor<3xf32>) -> tensor<3xi32>
    %0 = "tw.exp"(%i) : (tensor<3xi32>) -> tensor<3xi32> loc("loss"("model.py":7:0))
    "tw.yield"() : () -> ()
  }, {
    "tw.yield"() : () -> ()
  }) : (tensor<i1>) -> ()
  return
}

// -----

// MLIR's own rules come first: what is used must be defined before.
func.func @main(%x: tensor<3xf32>) {
  // expected-error@+1 {{operand #0 does not dominate this use}}
  %0 = "tw.exp"(%1) : (tensor<3xf32>) -> tensor<3xf32>
  %1 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  return
}
