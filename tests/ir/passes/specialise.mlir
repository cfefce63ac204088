// RUN: thalweg opt %s --pipeline 'specialise{inputs=3x4;3}' | filecheck %s

// Sizes come from the arguments; what is made of them follows: reshapes, ranges, counts, regions.
// 5311714361168 is the first open extent, printed as ? for people.

// CHECK: func.func @main(%{{.*}}: tensor<3x4xf32>, %{{.*}}: tensor<3xi32>) -> (tensor<6x2xf32>, tensor<3xi32>, tensor<i32>, tensor<3x4xf32>)
func.func @main(%x: tensor<5311714361168x4xf32>, %t: tensor<5311714361168xi32>) -> (tensor<10623428722336x2xf32>, tensor<5311714361168xi32>, tensor<i32>, tensor<5311714361168x4xf32>) {
  // CHECK: "tw.reshape"(%{{.*}}) {shape = array<i64: 6, 2>} : (tensor<3x4xf32>) -> tensor<6x2xf32>
  %r = "tw.reshape"(%x) {shape = array<i64: 10623428722336, 2>} : (tensor<5311714361168x4xf32>) -> tensor<10623428722336x2xf32>
  // CHECK: "tw.iota"() {dim = 0 : i64, dtype = i32, shape = array<i64: 3>} : () -> tensor<3xi32>
  %i = "tw.iota"() {dim = 0 : i64, dtype = i32, shape = array<i64: 5311714361168>} : () -> tensor<5311714361168xi32>
  // CHECK: "tw.constant"() {value = dense<12> : tensor<i32>} : () -> tensor<i32>
  %n = "tw.extent"(%x) {axes = array<i64: 0, 1>, dtype = i32} : (tensor<5311714361168x4xf32>) -> tensor<i32>
  // CHECK: "tw.checkpoint"() ({
  // CHECK:   "tw.exp"(%{{.*}}) : (tensor<3x4xf32>) -> tensor<3x4xf32>
  %y = "tw.checkpoint"() ({
    %e = "tw.exp"(%x) : (tensor<5311714361168x4xf32>) -> tensor<5311714361168x4xf32>
    "tw.yield"(%e) : (tensor<5311714361168x4xf32>) -> ()
  }) : () -> tensor<5311714361168x4xf32>
  return %r, %i, %n, %y : tensor<10623428722336x2xf32>, tensor<5311714361168xi32>, tensor<i32>, tensor<5311714361168x4xf32>
}
