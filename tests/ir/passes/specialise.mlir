// RUN: thalweg opt %s --pipeline 'specialise{inputs=3x4;3}' | filecheck %s

// Sizes come from the arguments; what is made of them follows: reshapes, ranges, counts, regions.
// 4398046511104 is the first open extent, printed as ? for people.

// CHECK: func.func @main(%{{.*}}: tensor<3x4xf32>, %{{.*}}: tensor<3xi32>) -> (tensor<6x2xf32>, tensor<3xi32>, tensor<i32>, tensor<3x4xf32>)
func.func @main(%x: tensor<4398046511104x4xf32>, %t: tensor<4398046511104xi32>) -> (tensor<8796093022208x2xf32>, tensor<4398046511104xi32>, tensor<i32>, tensor<4398046511104x4xf32>) {
  // CHECK: "tw.reshape"(%{{.*}}) {shape = array<i64: 6, 2>} : (tensor<3x4xf32>) -> tensor<6x2xf32>
  %r = "tw.reshape"(%x) {shape = array<i64: 8796093022208, 2>} : (tensor<4398046511104x4xf32>) -> tensor<8796093022208x2xf32>
  // CHECK: "tw.iota"() {dim = 0 : i64, dtype = i32, shape = array<i64: 3>} : () -> tensor<3xi32>
  %i = "tw.iota"() {dim = 0 : i64, dtype = i32, shape = array<i64: 4398046511104>} : () -> tensor<4398046511104xi32>
  // CHECK: "tw.constant"() {value = dense<12> : tensor<i32>} : () -> tensor<i32>
  %n = "tw.extent"(%x) {axes = array<i64: 0, 1>, dtype = i32} : (tensor<4398046511104x4xf32>) -> tensor<i32>
  // CHECK: "tw.checkpoint"() ({
  // CHECK:   "tw.exp"(%{{.*}}) : (tensor<3x4xf32>) -> tensor<3x4xf32>
  %y = "tw.checkpoint"() ({
    %e = "tw.exp"(%x) : (tensor<4398046511104x4xf32>) -> tensor<4398046511104x4xf32>
    "tw.yield"(%e) : (tensor<4398046511104x4xf32>) -> ()
  }) : () -> tensor<4398046511104x4xf32>
  return %r, %i, %n, %y : tensor<8796093022208x2xf32>, tensor<4398046511104xi32>, tensor<i32>, tensor<4398046511104x4xf32>
}
