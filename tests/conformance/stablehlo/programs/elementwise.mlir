module @jit_elementwise attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<5x7xf32>, %arg1: tensor<5x7xf32>) -> (tensor<5x7xf32> {jax.result_info = "result[0]"}, tensor<5x7xf32> {jax.result_info = "result[1]"}, tensor<5x7xf32> {jax.result_info = "result[2]"}, tensor<5x7xf32> {jax.result_info = "result[3]"}, tensor<5x7xf32> {jax.result_info = "result[4]"}, tensor<5x7xf32> {jax.result_info = "result[5]"}, tensor<5x7xf32> {jax.result_info = "result[6]"}, tensor<5x7xf32> {jax.result_info = "result[7]"}, tensor<5x7xf32> {jax.result_info = "result[8]"}, tensor<5x7xf32> {jax.result_info = "result[9]"}, tensor<5x7xf32> {jax.result_info = "result[10]"}, tensor<5x7xf32> {jax.result_info = "result[11]"}, tensor<5x7xf32> {jax.result_info = "result[12]"}, tensor<5x7xf32> {jax.result_info = "result[13]"}, tensor<5x7xf32> {jax.result_info = "result[14]"}, tensor<5x7xf32> {jax.result_info = "result[15]"}, tensor<5x7xf32> {jax.result_info = "result[16]"}, tensor<5x7xf32> {jax.result_info = "result[17]"}, tensor<5x7xf32> {jax.result_info = "result[18]"}) {
    %0 = stablehlo.tanh %arg0 : tensor<5x7xf32>
    %1 = stablehlo.exponential %arg1 : tensor<5x7xf32>
    %2 = stablehlo.multiply %0, %1 : tensor<5x7xf32>
    %3 = stablehlo.sine %arg0 : tensor<5x7xf32>
    %4 = stablehlo.abs %arg1 : tensor<5x7xf32>
    %cst = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %5 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<5x7xf32>
    %6 = stablehlo.add %5, %4 : tensor<5x7xf32>
    %7 = stablehlo.divide %3, %6 : tensor<5x7xf32>
    %8 = stablehlo.add %2, %7 : tensor<5x7xf32>
    %9 = stablehlo.compare GT, %arg0, %arg1, FLOAT : (tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xi1>
    %10 = call @_where(%9, %arg0, %arg1) : (tensor<5x7xi1>, tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xf32>
    %11 = stablehlo.abs %arg0 : tensor<5x7xf32>
    %12 = stablehlo.sqrt %11 : tensor<5x7xf32>
    %13 = stablehlo.abs %arg0 : tensor<5x7xf32>
    %14 = stablehlo.log_plus_one %13 : tensor<5x7xf32>
    %15 = stablehlo.tan %arg0 : tensor<5x7xf32>
    %16 = stablehlo.atan2 %arg0, %arg1 : tensor<5x7xf32>
    %17 = stablehlo.abs %arg0 : tensor<5x7xf32>
    %18 = stablehlo.power %17, %arg1 : tensor<5x7xf32>
    %19 = stablehlo.floor %arg0 : tensor<5x7xf32>
    %20 = stablehlo.ceil %arg0 : tensor<5x7xf32>
    %cst_0 = stablehlo.constant dense<3.000000e+00> : tensor<f32>
    %21 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<5x7xf32>
    %22 = stablehlo.multiply %arg0, %21 : tensor<5x7xf32>
    %23 = call @round(%22) : (tensor<5x7xf32>) -> tensor<5x7xf32>
    %24 = stablehlo.sign %arg0 : tensor<5x7xf32>
    %25 = stablehlo.exponential_minus_one %arg0 : tensor<5x7xf32>
    %26 = stablehlo.abs %arg0 : tensor<5x7xf32>
    %27 = stablehlo.rsqrt %26 : tensor<5x7xf32>
    %28 = stablehlo.negate %arg0 : tensor<5x7xf32>
    %29 = stablehlo.exponential %28 : tensor<5x7xf32>
    %cst_1 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %30 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<5x7xf32>
    %31 = stablehlo.add %30, %29 : tensor<5x7xf32>
    %cst_2 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %32 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<5x7xf32>
    %33 = stablehlo.divide %32, %31 : tensor<5x7xf32>
    %34 = stablehlo.cosine %arg0 : tensor<5x7xf32>
    %35 = stablehlo.remainder %arg0, %arg1 : tensor<5x7xf32>
    %36 = call @remainder(%arg0, %arg1) : (tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xf32>
    %37 = call @floor_divide(%arg0, %arg1) : (tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xf32>
    %38 = stablehlo.cbrt %arg0 : tensor<5x7xf32>
    return %8, %10, %12, %14, %15, %16, %18, %19, %20, %23, %24, %25, %27, %33, %34, %35, %36, %37, %38 : tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>, tensor<5x7xf32>
  }
  func.func private @_where(%arg0: tensor<5x7xi1>, %arg1: tensor<5x7xf32>, %arg2: tensor<5x7xf32>) -> tensor<5x7xf32> {
    %0 = stablehlo.select %arg0, %arg1, %arg2 : tensor<5x7xi1>, tensor<5x7xf32>
    return %0 : tensor<5x7xf32>
  }
  func.func private @round(%arg0: tensor<5x7xf32>) -> tensor<5x7xf32> {
    %0 = stablehlo.round_nearest_even %arg0 : tensor<5x7xf32>
    return %0 : tensor<5x7xf32>
  }
  func.func private @remainder(%arg0: tensor<5x7xf32>, %arg1: tensor<5x7xf32>) -> tensor<5x7xf32> {
    %0 = stablehlo.remainder %arg0, %arg1 : tensor<5x7xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<5x7xf32>
    %2 = stablehlo.compare NE, %0, %1, FLOAT : (tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xi1>
    %cst_0 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %3 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<5x7xf32>
    %4 = stablehlo.compare LT, %0, %3, FLOAT : (tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xi1>
    %cst_1 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %5 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<5x7xf32>
    %6 = stablehlo.compare LT, %arg1, %5, FLOAT : (tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xi1>
    %7 = stablehlo.compare NE, %4, %6, UNSIGNED : (tensor<5x7xi1>, tensor<5x7xi1>) -> tensor<5x7xi1>
    %8 = stablehlo.and %7, %2 : tensor<5x7xi1>
    %9 = stablehlo.add %0, %arg1 : tensor<5x7xf32>
    %10 = stablehlo.select %8, %9, %0 : tensor<5x7xi1>, tensor<5x7xf32>
    return %10 : tensor<5x7xf32>
  }
  func.func private @floor_divide(%arg0: tensor<5x7xf32>, %arg1: tensor<5x7xf32>) -> tensor<5x7xf32> {
    %0 = stablehlo.remainder %arg0, %arg1 : tensor<5x7xf32>
    %cst = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %1 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<5x7xf32>
    %2 = stablehlo.compare EQ, %arg1, %1, FLOAT : (tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xi1>
    %3 = stablehlo.subtract %arg0, %0 : tensor<5x7xf32>
    %4 = call @_where(%2, %arg0, %3) : (tensor<5x7xi1>, tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xf32>
    %5 = stablehlo.divide %4, %arg1 : tensor<5x7xf32>
    %cst_0 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %6 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<5x7xf32>
    %7 = stablehlo.compare NE, %0, %6, FLOAT : (tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xi1>
    %8 = stablehlo.sign %arg1 : tensor<5x7xf32>
    %9 = stablehlo.sign %0 : tensor<5x7xf32>
    %10 = stablehlo.compare NE, %8, %9, FLOAT : (tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<5x7xi1>
    %11 = stablehlo.and %7, %10 : tensor<5x7xi1>
    %cst_1 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %12 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<5x7xf32>
    %13 = stablehlo.subtract %5, %12 : tensor<5x7xf32>
    %14 = stablehlo.select %11, %13, %5 : tensor<5x7xi1>, tensor<5x7xf32>
    %15 = stablehlo.round_nearest_afz %14 : tensor<5x7xf32>
    return %15 : tensor<5x7xf32>
  }
}
