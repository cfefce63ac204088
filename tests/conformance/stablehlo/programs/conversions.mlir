module @jit_conversions attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<10xf32>) -> (tensor<10xi8> {jax.result_info = "result[0]"}, tensor<10xi16> {jax.result_info = "result[1]"}, tensor<10xi32> {jax.result_info = "result[2]"}, tensor<10xui8> {jax.result_info = "result[3]"}, tensor<10xui16> {jax.result_info = "result[4]"}, tensor<10xui32> {jax.result_info = "result[5]"}, tensor<10xi1> {jax.result_info = "result[6]"}, tensor<10xf16> {jax.result_info = "result[7]"}, tensor<10xbf16> {jax.result_info = "result[8]"}) {
    %0 = stablehlo.convert %arg0 : (tensor<10xf32>) -> tensor<10xi8>
    %1 = stablehlo.convert %arg0 : (tensor<10xf32>) -> tensor<10xi16>
    %2 = stablehlo.convert %arg0 : (tensor<10xf32>) -> tensor<10xi32>
    %3 = stablehlo.convert %arg0 : (tensor<10xf32>) -> tensor<10xui8>
    %4 = stablehlo.convert %arg0 : (tensor<10xf32>) -> tensor<10xui16>
    %5 = stablehlo.convert %arg0 : (tensor<10xf32>) -> tensor<10xui32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %6 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<10xf32>
    %7 = stablehlo.compare NE, %arg0, %6, FLOAT : (tensor<10xf32>, tensor<10xf32>) -> tensor<10xi1>
    %8 = stablehlo.convert %7 : tensor<10xi1>
    %9 = stablehlo.convert %arg0 : (tensor<10xf32>) -> tensor<10xf16>
    %10 = stablehlo.convert %arg0 : (tensor<10xf32>) -> tensor<10xbf16>
    return %0, %1, %2, %3, %4, %5, %8, %9, %10 : tensor<10xi8>, tensor<10xi16>, tensor<10xi32>, tensor<10xui8>, tensor<10xui16>, tensor<10xui32>, tensor<10xi1>, tensor<10xf16>, tensor<10xbf16>
  }
}
