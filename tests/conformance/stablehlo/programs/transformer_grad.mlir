module @jit_transformer_grad attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<32x96xf32>, %arg1: tensor<32x32xf32>, %arg2: tensor<32x64xf32>, %arg3: tensor<64x32xf32>, %arg4: tensor<2x10x32xf32>) -> (tensor<f32> {jax.result_info = "result[0]"}, tensor<32x96xf32> {jax.result_info = "result[1][0]"}, tensor<32x32xf32> {jax.result_info = "result[1][1]"}, tensor<32x64xf32> {jax.result_info = "result[1][2]"}, tensor<64x32xf32> {jax.result_info = "result[1][3]"}) {
    %0 = stablehlo.dot_general %arg4, %arg0, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<2x10x32xf32>, tensor<32x96xf32>) -> tensor<2x10x96xf32>
    %1 = stablehlo.slice %0 [0:2, 0:10, 0:32] : (tensor<2x10x96xf32>) -> tensor<2x10x32xf32>
    %2 = stablehlo.slice %0 [0:2, 0:10, 32:64] : (tensor<2x10x96xf32>) -> tensor<2x10x32xf32>
    %3 = stablehlo.slice %0 [0:2, 0:10, 64:96] : (tensor<2x10x96xf32>) -> tensor<2x10x32xf32>
    %4 = stablehlo.reshape %1 : (tensor<2x10x32xf32>) -> tensor<2x10x4x8xf32>
    %5 = stablehlo.transpose %4, dims = [0, 2, 1, 3] : (tensor<2x10x4x8xf32>) -> tensor<2x4x10x8xf32>
    %6 = stablehlo.reshape %2 : (tensor<2x10x32xf32>) -> tensor<2x10x4x8xf32>
    %7 = stablehlo.transpose %6, dims = [0, 2, 1, 3] : (tensor<2x10x4x8xf32>) -> tensor<2x4x10x8xf32>
    %8 = stablehlo.transpose %7, dims = [0, 1, 3, 2] : (tensor<2x4x10x8xf32>) -> tensor<2x4x8x10xf32>
    %9 = stablehlo.dot_general %5, %8, batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [2], precision = [DEFAULT, DEFAULT] : (tensor<2x4x10x8xf32>, tensor<2x4x8x10xf32>) -> tensor<2x4x10x10xf32>
    %cst = stablehlo.constant dense<4.000000e+00> : tensor<f32>
    %10 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<2x4x10x10xf32>
    %11 = stablehlo.divide %9, %10 : tensor<2x4x10x10xf32>
    %cst_0 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %12 = stablehlo.reduce(%11 init: %cst_0) applies stablehlo.maximum across dimensions = [3] : (tensor<2x4x10x10xf32>, tensor<f32>) -> tensor<2x4x10xf32>
    %cst_1 = stablehlo.constant dense<0xFF800000> : tensor<f32>
    %13 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<2x4x10xf32>
    %14 = stablehlo.maximum %13, %12 : tensor<2x4x10xf32>
    %15 = stablehlo.broadcast_in_dim %14, dims = [0, 1, 2] : (tensor<2x4x10xf32>) -> tensor<2x4x10x1xf32>
    %16 = stablehlo.broadcast_in_dim %15, dims = [0, 1, 2, 3] : (tensor<2x4x10x1xf32>) -> tensor<2x4x10x10xf32>
    %17 = stablehlo.subtract %11, %16 : tensor<2x4x10x10xf32>
    %18 = stablehlo.exponential %17 : tensor<2x4x10x10xf32>
    %cst_2 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %19 = stablehlo.reduce(%18 init: %cst_2) applies stablehlo.add across dimensions = [3] : (tensor<2x4x10x10xf32>, tensor<f32>) -> tensor<2x4x10xf32>
    %20 = stablehlo.broadcast_in_dim %19, dims = [0, 1, 2] : (tensor<2x4x10xf32>) -> tensor<2x4x10x1xf32>
    %21 = stablehlo.broadcast_in_dim %20, dims = [0, 1, 2, 3] : (tensor<2x4x10x1xf32>) -> tensor<2x4x10x10xf32>
    %22 = stablehlo.divide %18, %21 : tensor<2x4x10x10xf32>
    %23 = stablehlo.multiply %20, %20 : tensor<2x4x10x1xf32>
    %cst_3 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %24 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<2x4x10x1xf32>
    %25 = stablehlo.divide %24, %23 : tensor<2x4x10x1xf32>
    %26 = stablehlo.reshape %3 : (tensor<2x10x32xf32>) -> tensor<2x10x4x8xf32>
    %27 = stablehlo.transpose %26, dims = [0, 2, 1, 3] : (tensor<2x10x4x8xf32>) -> tensor<2x4x10x8xf32>
    %28 = stablehlo.dot_general %22, %27, batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [2], precision = [DEFAULT, DEFAULT] : (tensor<2x4x10x10xf32>, tensor<2x4x10x8xf32>) -> tensor<2x4x10x8xf32>
    %29 = stablehlo.transpose %28, dims = [0, 2, 1, 3] : (tensor<2x4x10x8xf32>) -> tensor<2x10x4x8xf32>
    %30 = stablehlo.reshape %29 : (tensor<2x10x4x8xf32>) -> tensor<2x10x32xf32>
    %31 = stablehlo.dot_general %30, %arg1, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<2x10x32xf32>, tensor<32x32xf32>) -> tensor<2x10x32xf32>
    %32 = stablehlo.add %arg4, %31 : tensor<2x10x32xf32>
    %cst_4 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %33 = stablehlo.reduce(%32 init: %cst_4) applies stablehlo.add across dimensions = [2] : (tensor<2x10x32xf32>, tensor<f32>) -> tensor<2x10xf32>
    %34 = stablehlo.broadcast_in_dim %33, dims = [0, 1] : (tensor<2x10xf32>) -> tensor<2x10x1xf32>
    %cst_5 = stablehlo.constant dense<3.200000e+01> : tensor<f32>
    %35 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<2x10x1xf32>
    %36 = stablehlo.divide %34, %35 : tensor<2x10x1xf32>
    %37 = stablehlo.broadcast_in_dim %36, dims = [0, 1, 2] : (tensor<2x10x1xf32>) -> tensor<2x10x32xf32>
    %38 = stablehlo.subtract %32, %37 : tensor<2x10x32xf32>
    %39 = stablehlo.multiply %38, %38 : tensor<2x10x32xf32>
    %cst_6 = stablehlo.constant dense<2.000000e+00> : tensor<f32>
    %40 = stablehlo.broadcast_in_dim %cst_6, dims = [] : (tensor<f32>) -> tensor<2x10x32xf32>
    %41 = stablehlo.multiply %40, %38 : tensor<2x10x32xf32>
    %cst_7 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %42 = stablehlo.reduce(%39 init: %cst_7) applies stablehlo.add across dimensions = [2] : (tensor<2x10x32xf32>, tensor<f32>) -> tensor<2x10xf32>
    %43 = stablehlo.broadcast_in_dim %42, dims = [0, 1] : (tensor<2x10xf32>) -> tensor<2x10x1xf32>
    %cst_8 = stablehlo.constant dense<3.200000e+01> : tensor<f32>
    %44 = stablehlo.broadcast_in_dim %cst_8, dims = [] : (tensor<f32>) -> tensor<2x10x1xf32>
    %45 = stablehlo.divide %43, %44 : tensor<2x10x1xf32>
    %cst_9 = stablehlo.constant dense<9.99999974E-6> : tensor<f32>
    %46 = stablehlo.broadcast_in_dim %cst_9, dims = [] : (tensor<f32>) -> tensor<2x10x1xf32>
    %47 = stablehlo.add %45, %46 : tensor<2x10x1xf32>
    %48 = stablehlo.sqrt %47 : tensor<2x10x1xf32>
    %cst_10 = stablehlo.constant dense<5.000000e-01> : tensor<f32>
    %49 = stablehlo.broadcast_in_dim %cst_10, dims = [] : (tensor<f32>) -> tensor<2x10x1xf32>
    %50 = stablehlo.divide %49, %48 : tensor<2x10x1xf32>
    %51 = stablehlo.broadcast_in_dim %48, dims = [0, 1, 2] : (tensor<2x10x1xf32>) -> tensor<2x10x32xf32>
    %52 = stablehlo.divide %38, %51 : tensor<2x10x32xf32>
    %53 = stablehlo.multiply %48, %48 : tensor<2x10x1xf32>
    %cst_11 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %54 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<2x10x1xf32>
    %55 = stablehlo.divide %54, %53 : tensor<2x10x1xf32>
    %56 = stablehlo.dot_general %52, %arg2, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<2x10x32xf32>, tensor<32x64xf32>) -> tensor<2x10x64xf32>
    %57 = stablehlo.multiply %56, %56 : tensor<2x10x64xf32>
    %58 = stablehlo.multiply %57, %56 : tensor<2x10x64xf32>
    %59 = stablehlo.multiply %56, %56 : tensor<2x10x64xf32>
    %cst_12 = stablehlo.constant dense<3.000000e+00> : tensor<f32>
    %60 = stablehlo.broadcast_in_dim %cst_12, dims = [] : (tensor<f32>) -> tensor<2x10x64xf32>
    %61 = stablehlo.multiply %60, %59 : tensor<2x10x64xf32>
    %cst_13 = stablehlo.constant dense<4.471500e-02> : tensor<f32>
    %62 = stablehlo.broadcast_in_dim %cst_13, dims = [] : (tensor<f32>) -> tensor<2x10x64xf32>
    %63 = stablehlo.multiply %62, %58 : tensor<2x10x64xf32>
    %64 = stablehlo.add %56, %63 : tensor<2x10x64xf32>
    %cst_14 = stablehlo.constant dense<0.797884583> : tensor<f32>
    %65 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<2x10x64xf32>
    %66 = stablehlo.multiply %65, %64 : tensor<2x10x64xf32>
    %67 = stablehlo.tanh %66 : tensor<2x10x64xf32>
    %cst_15 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %68 = stablehlo.broadcast_in_dim %cst_15, dims = [] : (tensor<f32>) -> tensor<2x10x64xf32>
    %69 = stablehlo.subtract %68, %67 : tensor<2x10x64xf32>
    %cst_16 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %70 = stablehlo.broadcast_in_dim %cst_16, dims = [] : (tensor<f32>) -> tensor<2x10x64xf32>
    %71 = stablehlo.add %70, %67 : tensor<2x10x64xf32>
    %cst_17 = stablehlo.constant dense<5.000000e-01> : tensor<f32>
    %72 = stablehlo.broadcast_in_dim %cst_17, dims = [] : (tensor<f32>) -> tensor<2x10x64xf32>
    %73 = stablehlo.multiply %72, %71 : tensor<2x10x64xf32>
    %74 = stablehlo.multiply %56, %73 : tensor<2x10x64xf32>
    %75 = stablehlo.dot_general %74, %arg3, contracting_dims = [2] x [0], precision = [DEFAULT, DEFAULT] : (tensor<2x10x64xf32>, tensor<64x32xf32>) -> tensor<2x10x32xf32>
    %76 = stablehlo.add %32, %75 : tensor<2x10x32xf32>
    %77 = stablehlo.multiply %76, %76 : tensor<2x10x32xf32>
    %cst_18 = stablehlo.constant dense<2.000000e+00> : tensor<f32>
    %78 = stablehlo.broadcast_in_dim %cst_18, dims = [] : (tensor<f32>) -> tensor<2x10x32xf32>
    %79 = stablehlo.multiply %78, %76 : tensor<2x10x32xf32>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %80 = stablehlo.reduce(%77 init: %cst_19) applies stablehlo.add across dimensions = [0, 1, 2] : (tensor<2x10x32xf32>, tensor<f32>) -> tensor<f32>
    %cst_20 = stablehlo.constant dense<6.400000e+02> : tensor<f32>
    %81 = stablehlo.divide %80, %cst_20 : tensor<f32>
    %cst_21 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %cst_22 = stablehlo.constant dense<6.400000e+02> : tensor<f32>
    %82 = stablehlo.divide %cst_21, %cst_22 : tensor<f32>
    %83 = stablehlo.broadcast_in_dim %82, dims = [] : (tensor<f32>) -> tensor<2x10x32xf32>
    %84 = stablehlo.multiply %83, %79 : tensor<2x10x32xf32>
    %85 = stablehlo.dot_general %84, %74, contracting_dims = [0, 1] x [0, 1], precision = [DEFAULT, DEFAULT] : (tensor<2x10x32xf32>, tensor<2x10x64xf32>) -> tensor<32x64xf32>
    %86 = stablehlo.transpose %85, dims = [1, 0] : (tensor<32x64xf32>) -> tensor<64x32xf32>
    %87 = stablehlo.dot_general %84, %arg3, contracting_dims = [2] x [1], precision = [DEFAULT, DEFAULT] : (tensor<2x10x32xf32>, tensor<64x32xf32>) -> tensor<2x10x64xf32>
    %88 = stablehlo.multiply %56, %87 : tensor<2x10x64xf32>
    %89 = stablehlo.multiply %87, %73 : tensor<2x10x64xf32>
    %cst_23 = stablehlo.constant dense<5.000000e-01> : tensor<f32>
    %90 = stablehlo.broadcast_in_dim %cst_23, dims = [] : (tensor<f32>) -> tensor<2x10x64xf32>
    %91 = stablehlo.multiply %90, %88 : tensor<2x10x64xf32>
    %92 = stablehlo.multiply %91, %69 : tensor<2x10x64xf32>
    %93 = stablehlo.multiply %92, %67 : tensor<2x10x64xf32>
    %94 = stablehlo.add %92, %93 : tensor<2x10x64xf32>
    %cst_24 = stablehlo.constant dense<0.797884583> : tensor<f32>
    %95 = stablehlo.broadcast_in_dim %cst_24, dims = [] : (tensor<f32>) -> tensor<2x10x64xf32>
    %96 = stablehlo.multiply %95, %94 : tensor<2x10x64xf32>
    %97 = stablehlo.add %89, %96 : tensor<2x10x64xf32>
    %cst_25 = stablehlo.constant dense<4.471500e-02> : tensor<f32>
    %98 = stablehlo.broadcast_in_dim %cst_25, dims = [] : (tensor<f32>) -> tensor<2x10x64xf32>
    %99 = stablehlo.multiply %98, %96 : tensor<2x10x64xf32>
    %100 = stablehlo.multiply %99, %61 : tensor<2x10x64xf32>
    %101 = stablehlo.add %97, %100 : tensor<2x10x64xf32>
    %102 = stablehlo.dot_general %101, %52, contracting_dims = [0, 1] x [0, 1], precision = [DEFAULT, DEFAULT] : (tensor<2x10x64xf32>, tensor<2x10x32xf32>) -> tensor<64x32xf32>
    %103 = stablehlo.transpose %102, dims = [1, 0] : (tensor<64x32xf32>) -> tensor<32x64xf32>
    %104 = stablehlo.dot_general %101, %arg2, contracting_dims = [2] x [1], precision = [DEFAULT, DEFAULT] : (tensor<2x10x64xf32>, tensor<32x64xf32>) -> tensor<2x10x32xf32>
    %105 = stablehlo.broadcast_in_dim %55, dims = [0, 1, 2] : (tensor<2x10x1xf32>) -> tensor<2x10x32xf32>
    %106 = stablehlo.multiply %104, %105 : tensor<2x10x32xf32>
    %107 = stablehlo.multiply %106, %38 : tensor<2x10x32xf32>
    %cst_26 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %108 = stablehlo.reduce(%107 init: %cst_26) applies stablehlo.add across dimensions = [2] : (tensor<2x10x32xf32>, tensor<f32>) -> tensor<2x10xf32>
    %109 = stablehlo.reshape %108 : (tensor<2x10xf32>) -> tensor<2x10x1xf32>
    %110 = stablehlo.negate %109 : tensor<2x10x1xf32>
    %111 = stablehlo.broadcast_in_dim %48, dims = [0, 1, 2] : (tensor<2x10x1xf32>) -> tensor<2x10x32xf32>
    %112 = stablehlo.divide %104, %111 : tensor<2x10x32xf32>
    %113 = stablehlo.multiply %110, %50 : tensor<2x10x1xf32>
    %cst_27 = stablehlo.constant dense<3.200000e+01> : tensor<f32>
    %114 = stablehlo.broadcast_in_dim %cst_27, dims = [] : (tensor<f32>) -> tensor<2x10x1xf32>
    %115 = stablehlo.divide %113, %114 : tensor<2x10x1xf32>
    %cst_28 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %116 = stablehlo.reduce(%115 init: %cst_28) applies stablehlo.add across dimensions = [2] : (tensor<2x10x1xf32>, tensor<f32>) -> tensor<2x10xf32>
    %117 = stablehlo.broadcast_in_dim %116, dims = [0, 1] : (tensor<2x10xf32>) -> tensor<2x10x32xf32>
    %118 = stablehlo.multiply %117, %41 : tensor<2x10x32xf32>
    %119 = stablehlo.add %112, %118 : tensor<2x10x32xf32>
    %120 = stablehlo.negate %119 : tensor<2x10x32xf32>
    %cst_29 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %121 = stablehlo.reduce(%120 init: %cst_29) applies stablehlo.add across dimensions = [2] : (tensor<2x10x32xf32>, tensor<f32>) -> tensor<2x10xf32>
    %122 = stablehlo.reshape %121 : (tensor<2x10xf32>) -> tensor<2x10x1xf32>
    %123 = stablehlo.add %84, %119 : tensor<2x10x32xf32>
    %cst_30 = stablehlo.constant dense<3.200000e+01> : tensor<f32>
    %124 = stablehlo.broadcast_in_dim %cst_30, dims = [] : (tensor<f32>) -> tensor<2x10x1xf32>
    %125 = stablehlo.divide %122, %124 : tensor<2x10x1xf32>
    %cst_31 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %126 = stablehlo.reduce(%125 init: %cst_31) applies stablehlo.add across dimensions = [2] : (tensor<2x10x1xf32>, tensor<f32>) -> tensor<2x10xf32>
    %127 = stablehlo.broadcast_in_dim %126, dims = [0, 1] : (tensor<2x10xf32>) -> tensor<2x10x32xf32>
    %128 = stablehlo.add %123, %127 : tensor<2x10x32xf32>
    %129 = stablehlo.dot_general %128, %30, contracting_dims = [0, 1] x [0, 1], precision = [DEFAULT, DEFAULT] : (tensor<2x10x32xf32>, tensor<2x10x32xf32>) -> tensor<32x32xf32>
    %130 = stablehlo.transpose %129, dims = [1, 0] : (tensor<32x32xf32>) -> tensor<32x32xf32>
    %131 = stablehlo.dot_general %128, %arg1, contracting_dims = [2] x [1], precision = [DEFAULT, DEFAULT] : (tensor<2x10x32xf32>, tensor<32x32xf32>) -> tensor<2x10x32xf32>
    %132 = stablehlo.reshape %131 : (tensor<2x10x32xf32>) -> tensor<2x10x4x8xf32>
    %133 = stablehlo.transpose %132, dims = [0, 2, 1, 3] : (tensor<2x10x4x8xf32>) -> tensor<2x4x10x8xf32>
    %134 = stablehlo.dot_general %133, %22, batching_dims = [0, 1] x [0, 1], contracting_dims = [2] x [2], precision = [DEFAULT, DEFAULT] : (tensor<2x4x10x8xf32>, tensor<2x4x10x10xf32>) -> tensor<2x4x8x10xf32>
    %135 = stablehlo.transpose %134, dims = [0, 1, 3, 2] : (tensor<2x4x8x10xf32>) -> tensor<2x4x10x8xf32>
    %136 = stablehlo.dot_general %133, %27, batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [3], precision = [DEFAULT, DEFAULT] : (tensor<2x4x10x8xf32>, tensor<2x4x10x8xf32>) -> tensor<2x4x10x10xf32>
    %137 = stablehlo.transpose %135, dims = [0, 2, 1, 3] : (tensor<2x4x10x8xf32>) -> tensor<2x10x4x8xf32>
    %138 = stablehlo.reshape %137 : (tensor<2x10x4x8xf32>) -> tensor<2x10x32xf32>
    %139 = stablehlo.broadcast_in_dim %25, dims = [0, 1, 2, 3] : (tensor<2x4x10x1xf32>) -> tensor<2x4x10x10xf32>
    %140 = stablehlo.multiply %136, %139 : tensor<2x4x10x10xf32>
    %141 = stablehlo.multiply %140, %18 : tensor<2x4x10x10xf32>
    %cst_32 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %142 = stablehlo.reduce(%141 init: %cst_32) applies stablehlo.add across dimensions = [3] : (tensor<2x4x10x10xf32>, tensor<f32>) -> tensor<2x4x10xf32>
    %143 = stablehlo.reshape %142 : (tensor<2x4x10xf32>) -> tensor<2x4x10x1xf32>
    %144 = stablehlo.negate %143 : tensor<2x4x10x1xf32>
    %145 = stablehlo.broadcast_in_dim %20, dims = [0, 1, 2, 3] : (tensor<2x4x10x1xf32>) -> tensor<2x4x10x10xf32>
    %146 = stablehlo.divide %136, %145 : tensor<2x4x10x10xf32>
    %cst_33 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %147 = stablehlo.reduce(%144 init: %cst_33) applies stablehlo.add across dimensions = [3] : (tensor<2x4x10x1xf32>, tensor<f32>) -> tensor<2x4x10xf32>
    %148 = stablehlo.broadcast_in_dim %147, dims = [0, 1, 2] : (tensor<2x4x10xf32>) -> tensor<2x4x10x10xf32>
    %149 = stablehlo.add %146, %148 : tensor<2x4x10x10xf32>
    %150 = stablehlo.multiply %149, %18 : tensor<2x4x10x10xf32>
    %cst_34 = stablehlo.constant dense<4.000000e+00> : tensor<f32>
    %151 = stablehlo.broadcast_in_dim %cst_34, dims = [] : (tensor<f32>) -> tensor<2x4x10x10xf32>
    %152 = stablehlo.divide %150, %151 : tensor<2x4x10x10xf32>
    %153 = stablehlo.dot_general %152, %5, batching_dims = [0, 1] x [0, 1], contracting_dims = [2] x [2], precision = [DEFAULT, DEFAULT] : (tensor<2x4x10x10xf32>, tensor<2x4x10x8xf32>) -> tensor<2x4x10x8xf32>
    %154 = stablehlo.transpose %153, dims = [0, 1, 3, 2] : (tensor<2x4x10x8xf32>) -> tensor<2x4x8x10xf32>
    %155 = stablehlo.dot_general %152, %8, batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [3], precision = [DEFAULT, DEFAULT] : (tensor<2x4x10x10xf32>, tensor<2x4x8x10xf32>) -> tensor<2x4x10x8xf32>
    %156 = stablehlo.transpose %154, dims = [0, 1, 3, 2] : (tensor<2x4x8x10xf32>) -> tensor<2x4x10x8xf32>
    %157 = stablehlo.transpose %156, dims = [0, 2, 1, 3] : (tensor<2x4x10x8xf32>) -> tensor<2x10x4x8xf32>
    %158 = stablehlo.reshape %157 : (tensor<2x10x4x8xf32>) -> tensor<2x10x32xf32>
    %159 = stablehlo.transpose %155, dims = [0, 2, 1, 3] : (tensor<2x4x10x8xf32>) -> tensor<2x10x4x8xf32>
    %160 = stablehlo.reshape %159 : (tensor<2x10x4x8xf32>) -> tensor<2x10x32xf32>
    %161 = stablehlo.concatenate %160, %158, %138, dim = 2 : (tensor<2x10x32xf32>, tensor<2x10x32xf32>, tensor<2x10x32xf32>) -> tensor<2x10x96xf32>
    %162 = stablehlo.dot_general %161, %arg4, contracting_dims = [0, 1] x [0, 1], precision = [DEFAULT, DEFAULT] : (tensor<2x10x96xf32>, tensor<2x10x32xf32>) -> tensor<96x32xf32>
    %163 = stablehlo.transpose %162, dims = [1, 0] : (tensor<96x32xf32>) -> tensor<32x96xf32>
    return %81, %163, %130, %103, %86 : tensor<f32>, tensor<32x96xf32>, tensor<32x32xf32>, tensor<32x64xf32>, tensor<64x32xf32>
  }
}
