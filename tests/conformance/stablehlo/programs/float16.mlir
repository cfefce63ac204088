module @jit_float16 attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<4x8xf32>) -> (tensor<4x8xf16> {jax.result_info = "result[0]"}, tensor<8xf16> {jax.result_info = "result[1]"}, tensor<4x8xf16> {jax.result_info = "result[2]"}) {
    %0 = stablehlo.convert %arg0 : (tensor<4x8xf32>) -> tensor<4x8xf16>
    %1 = stablehlo.exponential %0 : tensor<4x8xf16>
    %2 = stablehlo.convert %0 : (tensor<4x8xf16>) -> tensor<4x8xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %3 = stablehlo.reduce(%2 init: %cst) applies stablehlo.add across dimensions = [0] : (tensor<4x8xf32>, tensor<f32>) -> tensor<8xf32>
    %4 = stablehlo.convert %3 : (tensor<8xf32>) -> tensor<8xf16>
    %cst_0 = stablehlo.constant dense<0xFC00> : tensor<f16>
    %5 = stablehlo.reduce(%0 init: %cst_0) applies stablehlo.maximum across dimensions = [1] : (tensor<4x8xf16>, tensor<f16>) -> tensor<4xf16>
    %cst_1 = stablehlo.constant dense<0xFC00> : tensor<f16>
    %6 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f16>) -> tensor<4xf16>
    %7 = stablehlo.maximum %6, %5 : tensor<4xf16>
    %8 = stablehlo.broadcast_in_dim %7, dims = [0] : (tensor<4xf16>) -> tensor<4x1xf16>
    %9 = stablehlo.broadcast_in_dim %8, dims = [0, 1] : (tensor<4x1xf16>) -> tensor<4x8xf16>
    %10 = stablehlo.subtract %0, %9 : tensor<4x8xf16>
    %11 = stablehlo.exponential %10 : tensor<4x8xf16>
    %12 = stablehlo.convert %11 : (tensor<4x8xf16>) -> tensor<4x8xf32>
    %cst_2 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %13 = stablehlo.reduce(%12 init: %cst_2) applies stablehlo.add across dimensions = [1] : (tensor<4x8xf32>, tensor<f32>) -> tensor<4xf32>
    %14 = stablehlo.broadcast_in_dim %13, dims = [0] : (tensor<4xf32>) -> tensor<4x1xf32>
    %15 = stablehlo.convert %14 : (tensor<4x1xf32>) -> tensor<4x1xf16>
    %16 = stablehlo.broadcast_in_dim %15, dims = [0, 1] : (tensor<4x1xf16>) -> tensor<4x8xf16>
    %17 = stablehlo.divide %11, %16 : tensor<4x8xf16>
    return %1, %4, %17 : tensor<4x8xf16>, tensor<8xf16>, tensor<4x8xf16>
  }
}
