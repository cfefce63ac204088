module @jit_attention attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<2x20x3x8xf32>, %arg1: tensor<2x36x3x8xf32>, %arg2: tensor<2x36x3x8xf32>, %arg3: tensor<2x3x20x36xf32>, %arg4: tensor<2x1x20x36xi1>) -> (tensor<2x20x3x8xf32> {jax.result_info = "result[0]"}, tensor<2x20x6x8xf32> {jax.result_info = "result[1]"}) {
    %0 = stablehlo.negate %arg0 : tensor<2x20x3x8xf32>
    %1 = stablehlo.concatenate %arg0, %0, dim = 2 : (tensor<2x20x3x8xf32>, tensor<2x20x3x8xf32>) -> tensor<2x20x6x8xf32>
    %2 = stablehlo.reshape %1 : (tensor<2x20x6x8xf32>) -> tensor<2x20x3x2x8xf32>
    %3 = stablehlo.dot_general %2, %arg1, batching_dims = [0, 2] x [0, 2], contracting_dims = [4] x [3], precision = [DEFAULT, DEFAULT] : (tensor<2x20x3x2x8xf32>, tensor<2x36x3x8xf32>) -> tensor<2x3x20x2x36xf32>
    %cst = stablehlo.constant dense<0.353553385> : tensor<f32>
    %4 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<2x3x20x2x36xf32>
    %5 = stablehlo.multiply %3, %4 : tensor<2x3x20x2x36xf32>
    %cst_0 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %6 = stablehlo.reduce(%5 init: %cst_0) applies stablehlo.maximum across dimensions = [4] : (tensor<2x3x20x2x36xf32>, tensor<f32>) -> tensor<2x3x20x2xf32>
    %cst_1 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %7 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<2x3x20x2xf32>
    %8 = stablehlo.maximum %7, %6 : tensor<2x3x20x2xf32>
    %9 = stablehlo.transpose %8, dims = [3, 0, 1, 2] : (tensor<2x3x20x2xf32>) -> tensor<2x2x3x20xf32>
    %10 = stablehlo.broadcast_in_dim %9, dims = [0, 1, 2, 3] : (tensor<2x2x3x20xf32>) -> tensor<2x2x3x20x1xf32>
    %11 = stablehlo.transpose %5, dims = [3, 0, 1, 2, 4] : (tensor<2x3x20x2x36xf32>) -> tensor<2x2x3x20x36xf32>
    %12 = stablehlo.broadcast_in_dim %10, dims = [0, 1, 2, 3, 4] : (tensor<2x2x3x20x1xf32>) -> tensor<2x2x3x20x36xf32>
    %13 = stablehlo.subtract %11, %12 : tensor<2x2x3x20x36xf32>
    %14 = stablehlo.exponential %13 : tensor<2x2x3x20x36xf32>
    %cst_2 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %15 = stablehlo.reduce(%14 init: %cst_2) applies stablehlo.add across dimensions = [4] : (tensor<2x2x3x20x36xf32>, tensor<f32>) -> tensor<2x2x3x20xf32>
    %16 = stablehlo.broadcast_in_dim %15, dims = [0, 1, 2, 3] : (tensor<2x2x3x20xf32>) -> tensor<2x2x3x20x1xf32>
    %17 = stablehlo.broadcast_in_dim %16, dims = [0, 1, 2, 3, 4] : (tensor<2x2x3x20x1xf32>) -> tensor<2x2x3x20x36xf32>
    %18 = stablehlo.divide %14, %17 : tensor<2x2x3x20x36xf32>
    %19 = stablehlo.dot_general %arg2, %18, batching_dims = [0, 2] x [1, 2], contracting_dims = [1] x [4], precision = [DEFAULT, DEFAULT] : (tensor<2x36x3x8xf32>, tensor<2x2x3x20x36xf32>) -> tensor<2x3x8x2x20xf32>
    %20 = stablehlo.transpose %19, dims = [3, 0, 4, 1, 2] : (tensor<2x3x8x2x20xf32>) -> tensor<2x2x20x3x8xf32>
    %21 = stablehlo.transpose %20, dims = [1, 2, 3, 0, 4] : (tensor<2x2x20x3x8xf32>) -> tensor<2x20x3x2x8xf32>
    %22 = stablehlo.reshape %21 : (tensor<2x20x3x2x8xf32>) -> tensor<2x20x6x8xf32>
    %23 = stablehlo.reshape %arg0 : (tensor<2x20x3x8xf32>) -> tensor<2x20x3x1x8xf32>
    %24 = stablehlo.reshape %arg3 : (tensor<2x3x20x36xf32>) -> tensor<2x3x1x20x36xf32>
    %25 = stablehlo.broadcast_in_dim %arg4, dims = [0, 1, 3, 4] : (tensor<2x1x20x36xi1>) -> tensor<2x1x1x20x36xi1>
    %26 = stablehlo.dot_general %23, %arg1, batching_dims = [0, 2] x [0, 2], contracting_dims = [4] x [3], precision = [DEFAULT, DEFAULT] : (tensor<2x20x3x1x8xf32>, tensor<2x36x3x8xf32>) -> tensor<2x3x20x1x36xf32>
    %cst_3 = stablehlo.constant dense<0.353553385> : tensor<f32>
    %27 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<2x3x20x1x36xf32>
    %28 = stablehlo.multiply %26, %27 : tensor<2x3x20x1x36xf32>
    %29 = stablehlo.transpose %28, dims = [3, 0, 1, 2, 4] : (tensor<2x3x20x1x36xf32>) -> tensor<1x2x3x20x36xf32>
    %30 = stablehlo.transpose %24, dims = [2, 0, 1, 3, 4] : (tensor<2x3x1x20x36xf32>) -> tensor<1x2x3x20x36xf32>
    %31 = stablehlo.add %29, %30 : tensor<1x2x3x20x36xf32>
    %c = stablehlo.constant dense<true> : tensor<i1>
    %32 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i1>) -> tensor<2x3x20x36xi1>
    %33 = stablehlo.broadcast_in_dim %32, dims = [1, 2, 3, 4] : (tensor<2x3x20x36xi1>) -> tensor<1x2x3x20x36xi1>
    %34 = stablehlo.transpose %25, dims = [2, 0, 1, 3, 4] : (tensor<2x1x1x20x36xi1>) -> tensor<1x2x1x20x36xi1>
    %35 = stablehlo.broadcast_in_dim %34, dims = [0, 1, 2, 3, 4] : (tensor<1x2x1x20x36xi1>) -> tensor<1x2x3x20x36xi1>
    %36 = stablehlo.and %33, %35 : tensor<1x2x3x20x36xi1>
    %cst_4 = stablehlo.constant dense<-2.38197633E+38> : tensor<f32>
    %37 = call @_where(%36, %31, %cst_4) : (tensor<1x2x3x20x36xi1>, tensor<1x2x3x20x36xf32>, tensor<f32>) -> tensor<1x2x3x20x36xf32>
    %cst_5 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %38 = stablehlo.reduce(%37 init: %cst_5) applies stablehlo.maximum across dimensions = [4] : (tensor<1x2x3x20x36xf32>, tensor<f32>) -> tensor<1x2x3x20xf32>
    %cst_6 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %39 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<f32>) -> tensor<1x2x3x20xf32>
    %40 = stablehlo.maximum %39, %38 : tensor<1x2x3x20xf32>
    %41 = stablehlo.broadcast_in_dim %40, dims = [0, 1, 2, 3] : (tensor<1x2x3x20xf32>) -> tensor<1x2x3x20x1xf32>
    %42 = stablehlo.broadcast_in_dim %41, dims = [0, 1, 2, 3, 4] : (tensor<1x2x3x20x1xf32>) -> tensor<1x2x3x20x36xf32>
    %43 = stablehlo.subtract %37, %42 : tensor<1x2x3x20x36xf32>
    %44 = stablehlo.exponential %43 : tensor<1x2x3x20x36xf32>
    %cst_7 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %45 = stablehlo.reduce(%44 init: %cst_7) applies stablehlo.add across dimensions = [4] : (tensor<1x2x3x20x36xf32>, tensor<f32>) -> tensor<1x2x3x20xf32>
    %46 = stablehlo.broadcast_in_dim %45, dims = [0, 1, 2, 3] : (tensor<1x2x3x20xf32>) -> tensor<1x2x3x20x1xf32>
    %47 = stablehlo.broadcast_in_dim %46, dims = [0, 1, 2, 3, 4] : (tensor<1x2x3x20x1xf32>) -> tensor<1x2x3x20x36xf32>
    %48 = stablehlo.divide %44, %47 : tensor<1x2x3x20x36xf32>
    %49 = stablehlo.dot_general %arg2, %48, batching_dims = [0, 2] x [1, 2], contracting_dims = [1] x [4], precision = [DEFAULT, DEFAULT] : (tensor<2x36x3x8xf32>, tensor<1x2x3x20x36xf32>) -> tensor<2x3x8x1x20xf32>
    %50 = stablehlo.transpose %49, dims = [3, 0, 4, 1, 2] : (tensor<2x3x8x1x20xf32>) -> tensor<1x2x20x3x8xf32>
    %51 = stablehlo.transpose %50, dims = [1, 2, 3, 0, 4] : (tensor<1x2x20x3x8xf32>) -> tensor<2x20x3x1x8xf32>
    %52 = stablehlo.reshape %51 : (tensor<2x20x3x1x8xf32>) -> tensor<2x20x3x8xf32>
    return %52, %22 : tensor<2x20x3x8xf32>, tensor<2x20x6x8xf32>
  }
  func.func private @_where(%arg0: tensor<1x2x3x20x36xi1>, %arg1: tensor<1x2x3x20x36xf32>, %arg2: tensor<f32>) -> tensor<1x2x3x20x36xf32> {
    %0 = stablehlo.broadcast_in_dim %arg2, dims = [] : (tensor<f32>) -> tensor<2x3x20x36xf32>
    %1 = stablehlo.broadcast_in_dim %0, dims = [1, 2, 3, 4] : (tensor<2x3x20x36xf32>) -> tensor<1x2x3x20x36xf32>
    %2 = stablehlo.select %arg0, %arg1, %1 : tensor<1x2x3x20x36xi1>, tensor<1x2x3x20x36xf32>
    return %2 : tensor<1x2x3x20x36xf32>
  }
}
