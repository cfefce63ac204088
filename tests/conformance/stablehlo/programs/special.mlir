module @jit_special attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<20xf32>) -> (tensor<20xf32> {jax.result_info = "result[0]"}, tensor<20xf32> {jax.result_info = "result[1]"}, tensor<20xf32> {jax.result_info = "result[2]"}, tensor<20xf32> {jax.result_info = "result[3]"}, tensor<20xf32> {jax.result_info = "result[4]"}, tensor<20xf32> {jax.result_info = "result[5]"}, tensor<20xf32> {jax.result_info = "result[6]"}, tensor<20xf32> {jax.result_info = "result[7]"}, tensor<20xf32> {jax.result_info = "result[8]"}, tensor<20xf32> {jax.result_info = "result[9]"}, tensor<20xf32> {jax.result_info = "result[10]"}, tensor<20xf32> {jax.result_info = "result[11]"}, tensor<20xf32> {jax.result_info = "result[12]"}, tensor<20xf32> {jax.result_info = "result[13]"}, tensor<20xf32> {jax.result_info = "result[14]"}, tensor<20xf32> {jax.result_info = "result[15]"}, tensor<20xf32> {jax.result_info = "result[16]"}, tensor<20xf32> {jax.result_info = "result[17]"}) {
    %0 = chlo.erf %arg0 : tensor<20xf32> -> tensor<20xf32>
    %1 = chlo.erfc %arg0 : tensor<20xf32> -> tensor<20xf32>
    %2 = stablehlo.tanh %arg0 : tensor<20xf32>
    %3 = chlo.erf_inv %2 : tensor<20xf32> -> tensor<20xf32>
    %4 = chlo.lgamma %arg0 : tensor<20xf32> -> tensor<20xf32>
    %5 = chlo.digamma %arg0 : tensor<20xf32> -> tensor<20xf32>
    %6 = chlo.bessel_i1e %arg0 : tensor<20xf32> -> tensor<20xf32>
    %7 = chlo.asinh %arg0 : tensor<20xf32> -> tensor<20xf32>
    %cst = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %8 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %9 = stablehlo.add %8, %arg0 : tensor<20xf32>
    %10 = call @arccosh(%9) : (tensor<20xf32>) -> tensor<20xf32>
    %11 = stablehlo.tanh %arg0 : tensor<20xf32>
    %12 = chlo.atanh %11 : tensor<20xf32> -> tensor<20xf32>
    %13 = chlo.sinh %arg0 : tensor<20xf32> -> tensor<20xf32>
    %14 = chlo.cosh %arg0 : tensor<20xf32> -> tensor<20xf32>
    %15 = chlo.atan %arg0 : tensor<20xf32> -> tensor<20xf32>
    %16 = stablehlo.tanh %arg0 : tensor<20xf32>
    %17 = chlo.asin %16 : tensor<20xf32> -> tensor<20xf32>
    %18 = stablehlo.tanh %arg0 : tensor<20xf32>
    %19 = chlo.acos %18 : tensor<20xf32> -> tensor<20xf32>
    %20 = stablehlo.compare NE, %arg0, %arg0, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
    %21 = stablehlo.compare NE, %arg0, %arg0, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
    %22 = stablehlo.or %20, %21 : tensor<20xi1>
    %cst_0 = stablehlo.constant dense<0x7F800000> : tensor<f32>
    %23 = stablehlo.broadcast_in_dim %cst_0, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %24 = stablehlo.compare EQ, %arg0, %23, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
    %cst_1 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %25 = stablehlo.broadcast_in_dim %cst_1, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %26 = stablehlo.compare EQ, %arg0, %25, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
    %cst_2 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %27 = stablehlo.broadcast_in_dim %cst_2, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %28 = stablehlo.compare EQ, %arg0, %27, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
    %cst_3 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %29 = stablehlo.broadcast_in_dim %cst_3, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %30 = stablehlo.compare LT, %arg0, %29, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
    %cst_4 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %31 = stablehlo.broadcast_in_dim %cst_4, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %32 = stablehlo.compare LT, %arg0, %31, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
    %33 = stablehlo.and %26, %28 : tensor<20xi1>
    %34 = stablehlo.or %30, %32 : tensor<20xi1>
    %35 = stablehlo.or %34, %33 : tensor<20xi1>
    %36 = stablehlo.or %35, %22 : tensor<20xi1>
    %cst_5 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %37 = stablehlo.broadcast_in_dim %cst_5, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %38 = stablehlo.compare GE, %arg0, %37, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
    %39 = stablehlo.compare GT, %arg0, %arg0, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
    %40 = stablehlo.and %38, %39 : tensor<20xi1>
    %41 = stablehlo.log %arg0 : tensor<20xf32>
    %42 = stablehlo.multiply %arg0, %41 : tensor<20xf32>
    %43 = stablehlo.subtract %42, %arg0 : tensor<20xf32>
    %44 = chlo.lgamma %arg0 : tensor<20xf32> -> tensor<20xf32>
    %45 = stablehlo.subtract %43, %44 : tensor<20xf32>
    %cst_6 = stablehlo.constant dense<3.40282347E+38> : tensor<f32>
    %46 = stablehlo.log %cst_6 : tensor<f32>
    %47 = stablehlo.negate %46 : tensor<f32>
    %48 = stablehlo.broadcast_in_dim %47, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %49 = stablehlo.compare LT, %45, %48, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
    %50 = stablehlo.exponential %45 : tensor<20xf32>
    %51 = stablehlo.or %28, %36 : tensor<20xi1>
    %52 = stablehlo.or %51, %49 : tensor<20xi1>
    %53 = stablehlo.or %52, %24 : tensor<20xi1>
    %54 = stablehlo.not %53 : tensor<20xi1>
    %55 = stablehlo.and %54, %40 : tensor<20xi1>
    %cst_7 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %56 = stablehlo.broadcast_in_dim %cst_7, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %57 = stablehlo.subtract %56, %arg0 : tensor<20xf32>
    %58 = stablehlo.add %arg0, %57 : tensor<20xf32>
    %cst_8 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %59 = stablehlo.broadcast_in_dim %cst_8, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %60 = stablehlo.add %58, %59 : tensor<20xf32>
    %cst_9 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %61 = stablehlo.broadcast_in_dim %cst_9, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %cst_10 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %62 = stablehlo.broadcast_in_dim %cst_10, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %63 = stablehlo.add %arg0, %62 : tensor<20xf32>
    %64 = stablehlo.multiply %60, %arg0 : tensor<20xf32>
    %65 = stablehlo.divide %63, %64 : tensor<20xf32>
    %cst_11 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %66 = stablehlo.broadcast_in_dim %cst_11, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %cst_12 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %67 = stablehlo.broadcast_in_dim %cst_12, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %cst_13 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %68 = stablehlo.broadcast_in_dim %cst_13, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %cst_14 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %69 = stablehlo.broadcast_in_dim %cst_14, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %70 = stablehlo.negate %arg0 : tensor<20xf32>
    %71 = stablehlo.multiply %65, %70 : tensor<20xf32>
    %72 = stablehlo.subtract %69, %71 : tensor<20xf32>
    %73 = stablehlo.divide %72, %64 : tensor<20xf32>
    %cst_15 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %74:15 = stablehlo.while(%iterArg = %55, %iterArg_28 = %65, %iterArg_29 = %66, %iterArg_30 = %57, %iterArg_31 = %60, %iterArg_32 = %cst_15, %iterArg_33 = %63, %iterArg_34 = %64, %iterArg_35 = %61, %iterArg_36 = %arg0, %iterArg_37 = %67, %iterArg_38 = %68, %iterArg_39 = %69, %iterArg_40 = %70, %iterArg_41 = %73) : tensor<20xi1>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<f32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>
    cond {
      %cst_42 = stablehlo.constant dense<2.000000e+03> : tensor<f32>
      %103 = stablehlo.compare LT, %iterArg_32, %cst_42, FLOAT : (tensor<f32>, tensor<f32>) -> tensor<i1>
      %c = stablehlo.constant dense<false> : tensor<i1>
      %104 = stablehlo.reduce(%iterArg init: %c) applies stablehlo.or across dimensions = [0] : (tensor<20xi1>, tensor<i1>) -> tensor<i1>
      %105 = stablehlo.and %103, %104 : tensor<i1>
      stablehlo.return %105 : tensor<i1>
    } do {
      %cst_42 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
      %103 = stablehlo.add %iterArg_32, %cst_42 : tensor<f32>
      %cst_43 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
      %104 = stablehlo.broadcast_in_dim %cst_43, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %105 = stablehlo.add %iterArg_30, %104 : tensor<20xf32>
      %cst_44 = stablehlo.constant dense<2.000000e+00> : tensor<f32>
      %106 = stablehlo.broadcast_in_dim %cst_44, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %107 = stablehlo.add %iterArg_31, %106 : tensor<20xf32>
      %108 = stablehlo.broadcast_in_dim %103, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %109 = stablehlo.multiply %105, %108 : tensor<20xf32>
      %110 = stablehlo.multiply %iterArg_33, %107 : tensor<20xf32>
      %111 = stablehlo.multiply %iterArg_35, %109 : tensor<20xf32>
      %112 = stablehlo.subtract %110, %111 : tensor<20xf32>
      %113 = stablehlo.multiply %iterArg_34, %107 : tensor<20xf32>
      %114 = stablehlo.multiply %iterArg_36, %109 : tensor<20xf32>
      %115 = stablehlo.subtract %113, %114 : tensor<20xf32>
      %cst_45 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
      %116 = stablehlo.broadcast_in_dim %cst_45, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %117 = stablehlo.compare NE, %115, %116, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
      %118 = stablehlo.divide %112, %115 : tensor<20xf32>
      %119 = stablehlo.subtract %iterArg_28, %118 : tensor<20xf32>
      %120 = stablehlo.divide %119, %118 : tensor<20xf32>
      %121 = stablehlo.abs %120 : tensor<20xf32>
      %cst_46 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
      %122 = stablehlo.broadcast_in_dim %cst_46, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %123 = stablehlo.select %117, %121, %122 : tensor<20xi1>, tensor<20xf32>
      %124 = stablehlo.select %117, %118, %iterArg_28 : tensor<20xi1>, tensor<20xf32>
      %125 = stablehlo.multiply %iterArg_39, %107 : tensor<20xf32>
      %126 = stablehlo.subtract %125, %iterArg_33 : tensor<20xf32>
      %127 = stablehlo.multiply %iterArg_37, %109 : tensor<20xf32>
      %128 = stablehlo.subtract %126, %127 : tensor<20xf32>
      %129 = stablehlo.broadcast_in_dim %103, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %130 = stablehlo.multiply %iterArg_35, %129 : tensor<20xf32>
      %131 = stablehlo.add %128, %130 : tensor<20xf32>
      %132 = stablehlo.multiply %iterArg_40, %107 : tensor<20xf32>
      %133 = stablehlo.subtract %132, %iterArg_34 : tensor<20xf32>
      %134 = stablehlo.multiply %iterArg_38, %109 : tensor<20xf32>
      %135 = stablehlo.subtract %133, %134 : tensor<20xf32>
      %136 = stablehlo.broadcast_in_dim %103, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %137 = stablehlo.multiply %iterArg_36, %136 : tensor<20xf32>
      %138 = stablehlo.add %135, %137 : tensor<20xf32>
      %139 = stablehlo.multiply %124, %138 : tensor<20xf32>
      %140 = stablehlo.subtract %131, %139 : tensor<20xf32>
      %141 = stablehlo.divide %140, %115 : tensor<20xf32>
      %142 = stablehlo.select %117, %141, %iterArg_41 : tensor<20xi1>, tensor<20xf32>
      %143 = stablehlo.subtract %142, %iterArg_41 : tensor<20xf32>
      %144 = stablehlo.abs %143 : tensor<20xf32>
      %cst_47 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
      %145 = stablehlo.broadcast_in_dim %cst_47, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %146 = stablehlo.select %117, %144, %145 : tensor<20xi1>, tensor<20xf32>
      %147 = stablehlo.abs %112 : tensor<20xf32>
      %cst_48 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %cst_49 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
      %148 = stablehlo.broadcast_in_dim %cst_49, dims = [] : (tensor<f32>) -> tensor<f32>
      %149 = stablehlo.divide %148, %cst_48 : tensor<f32>
      %150 = stablehlo.broadcast_in_dim %149, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %151 = stablehlo.compare GT, %147, %150, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
      %cst_50 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %152 = stablehlo.broadcast_in_dim %cst_50, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %153 = stablehlo.multiply %iterArg_33, %152 : tensor<20xf32>
      %154 = stablehlo.select %151, %153, %iterArg_33 : tensor<20xi1>, tensor<20xf32>
      %cst_51 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %155 = stablehlo.broadcast_in_dim %cst_51, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %156 = stablehlo.multiply %112, %155 : tensor<20xf32>
      %157 = stablehlo.select %151, %156, %112 : tensor<20xi1>, tensor<20xf32>
      %cst_52 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %158 = stablehlo.broadcast_in_dim %cst_52, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %159 = stablehlo.multiply %iterArg_34, %158 : tensor<20xf32>
      %160 = stablehlo.select %151, %159, %iterArg_34 : tensor<20xi1>, tensor<20xf32>
      %cst_53 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %161 = stablehlo.broadcast_in_dim %cst_53, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %162 = stablehlo.multiply %115, %161 : tensor<20xf32>
      %163 = stablehlo.select %151, %162, %115 : tensor<20xi1>, tensor<20xf32>
      %cst_54 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %164 = stablehlo.broadcast_in_dim %cst_54, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %165 = stablehlo.multiply %iterArg_39, %164 : tensor<20xf32>
      %166 = stablehlo.select %151, %165, %iterArg_39 : tensor<20xi1>, tensor<20xf32>
      %cst_55 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %167 = stablehlo.broadcast_in_dim %cst_55, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %168 = stablehlo.multiply %iterArg_40, %167 : tensor<20xf32>
      %169 = stablehlo.select %151, %168, %iterArg_40 : tensor<20xi1>, tensor<20xf32>
      %cst_56 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %170 = stablehlo.broadcast_in_dim %cst_56, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %171 = stablehlo.multiply %131, %170 : tensor<20xf32>
      %172 = stablehlo.select %151, %171, %131 : tensor<20xi1>, tensor<20xf32>
      %cst_57 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %173 = stablehlo.broadcast_in_dim %cst_57, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %174 = stablehlo.multiply %138, %173 : tensor<20xf32>
      %175 = stablehlo.select %151, %174, %138 : tensor<20xi1>, tensor<20xf32>
      %cst_58 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %176 = stablehlo.broadcast_in_dim %cst_58, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %177 = stablehlo.compare GT, %123, %176, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
      %178 = stablehlo.and %iterArg, %177 : tensor<20xi1>
      %179 = stablehlo.select %iterArg, %124, %iterArg_28 : tensor<20xi1>, tensor<20xf32>
      %180 = stablehlo.select %iterArg, %123, %iterArg_29 : tensor<20xi1>, tensor<20xf32>
      %181 = stablehlo.select %iterArg, %105, %iterArg_30 : tensor<20xi1>, tensor<20xf32>
      %182 = stablehlo.select %iterArg, %107, %iterArg_31 : tensor<20xi1>, tensor<20xf32>
      %183 = stablehlo.select %iterArg, %157, %iterArg_33 : tensor<20xi1>, tensor<20xf32>
      %184 = stablehlo.select %iterArg, %163, %iterArg_34 : tensor<20xi1>, tensor<20xf32>
      %185 = stablehlo.select %iterArg, %154, %iterArg_35 : tensor<20xi1>, tensor<20xf32>
      %186 = stablehlo.select %iterArg, %160, %iterArg_36 : tensor<20xi1>, tensor<20xf32>
      %187 = stablehlo.select %iterArg, %166, %iterArg_37 : tensor<20xi1>, tensor<20xf32>
      %188 = stablehlo.select %iterArg, %169, %iterArg_38 : tensor<20xi1>, tensor<20xf32>
      %189 = stablehlo.select %iterArg, %172, %iterArg_39 : tensor<20xi1>, tensor<20xf32>
      %190 = stablehlo.select %iterArg, %175, %iterArg_40 : tensor<20xi1>, tensor<20xf32>
      %191 = stablehlo.select %iterArg, %142, %iterArg_41 : tensor<20xi1>, tensor<20xf32>
      stablehlo.return %178, %179, %180, %181, %182, %103, %183, %184, %185, %186, %187, %188, %189, %190, %191 : tensor<20xi1>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<f32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>
    }
    %75 = stablehlo.multiply %74#1, %50 : tensor<20xf32>
    %cst_16 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %76 = stablehlo.broadcast_in_dim %cst_16, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %77 = stablehlo.subtract %76, %75 : tensor<20xf32>
    %78 = stablehlo.not %40 : tensor<20xi1>
    %79 = stablehlo.and %54, %78 : tensor<20xi1>
    %cst_17 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %80 = stablehlo.broadcast_in_dim %cst_17, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %cst_18 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %81 = stablehlo.broadcast_in_dim %cst_18, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %cst_19 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %82 = stablehlo.broadcast_in_dim %cst_19, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %cst_20 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %83 = stablehlo.broadcast_in_dim %cst_20, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %84:7 = stablehlo.while(%iterArg = %79, %iterArg_28 = %arg0, %iterArg_29 = %80, %iterArg_30 = %81, %iterArg_31 = %arg0, %iterArg_32 = %82, %iterArg_33 = %83) : tensor<20xi1>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>
    cond {
      %c = stablehlo.constant dense<false> : tensor<i1>
      %103 = stablehlo.reduce(%iterArg init: %c) applies stablehlo.or across dimensions = [0] : (tensor<20xi1>, tensor<i1>) -> tensor<i1>
      stablehlo.return %103 : tensor<i1>
    } do {
      %cst_34 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
      %103 = stablehlo.broadcast_in_dim %cst_34, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %104 = stablehlo.add %iterArg_28, %103 : tensor<20xf32>
      %105 = stablehlo.divide %iterArg_31, %104 : tensor<20xf32>
      %106 = stablehlo.multiply %iterArg_32, %105 : tensor<20xf32>
      %107 = stablehlo.multiply %iterArg_29, %iterArg_31 : tensor<20xf32>
      %108 = stablehlo.multiply %104, %104 : tensor<20xf32>
      %109 = stablehlo.divide %107, %108 : tensor<20xf32>
      %110 = stablehlo.subtract %106, %109 : tensor<20xf32>
      %111 = stablehlo.add %iterArg_33, %110 : tensor<20xf32>
      %112 = stablehlo.divide %iterArg_31, %104 : tensor<20xf32>
      %113 = stablehlo.multiply %iterArg_29, %112 : tensor<20xf32>
      %114 = stablehlo.add %iterArg_30, %113 : tensor<20xf32>
      %115 = stablehlo.divide %113, %114 : tensor<20xf32>
      %cst_35 = stablehlo.constant dense<1.1920929E-7> : tensor<f32>
      %116 = stablehlo.broadcast_in_dim %cst_35, dims = [] : (tensor<f32>) -> tensor<20xf32>
      %117 = stablehlo.compare GT, %115, %116, FLOAT : (tensor<20xf32>, tensor<20xf32>) -> tensor<20xi1>
      %118 = stablehlo.and %iterArg, %117 : tensor<20xi1>
      %119 = stablehlo.select %iterArg, %104, %iterArg_28 : tensor<20xi1>, tensor<20xf32>
      %120 = stablehlo.select %iterArg, %113, %iterArg_29 : tensor<20xi1>, tensor<20xf32>
      %121 = stablehlo.select %iterArg, %114, %iterArg_30 : tensor<20xi1>, tensor<20xf32>
      %122 = stablehlo.select %iterArg, %iterArg_31, %iterArg_31 : tensor<20xi1>, tensor<20xf32>
      %123 = stablehlo.select %iterArg, %110, %iterArg_32 : tensor<20xi1>, tensor<20xf32>
      %124 = stablehlo.select %iterArg, %111, %iterArg_33 : tensor<20xi1>, tensor<20xf32>
      stablehlo.return %118, %119, %120, %121, %122, %123, %124 : tensor<20xi1>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>
    }
    %85 = stablehlo.multiply %84#3, %50 : tensor<20xf32>
    %86 = stablehlo.divide %85, %arg0 : tensor<20xf32>
    %87 = stablehlo.select %40, %77, %86 : tensor<20xi1>, tensor<20xf32>
    %cst_21 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %88 = stablehlo.broadcast_in_dim %cst_21, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %89 = stablehlo.select %28, %88, %87 : tensor<20xi1>, tensor<20xf32>
    %cst_22 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %90 = stablehlo.broadcast_in_dim %cst_22, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %91 = stablehlo.select %24, %90, %89 : tensor<20xi1>, tensor<20xf32>
    %cst_23 = stablehlo.constant dense<0x7FC00000> : tensor<f32>
    %92 = stablehlo.broadcast_in_dim %cst_23, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %93 = stablehlo.select %36, %92, %91 : tensor<20xi1>, tensor<20xf32>
    %cst_24 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %94 = stablehlo.broadcast_in_dim %cst_24, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %95 = stablehlo.add %94, %arg0 : tensor<20xf32>
    %cst_25 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %96 = stablehlo.convert %cst_25 : tensor<f32>
    %97 = stablehlo.broadcast_in_dim %96, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %98 = chlo.zeta %95, %97 : tensor<20xf32>, tensor<20xf32> -> tensor<20xf32>
    %cst_26 = stablehlo.constant dense<0.000000e+00> : tensor<f32>
    %99 = stablehlo.broadcast_in_dim %cst_26, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %100 = chlo.next_after %arg0, %99 : tensor<20xf32>, tensor<20xf32> -> tensor<20xf32>
    %cst_27 = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %101 = stablehlo.broadcast_in_dim %cst_27, dims = [] : (tensor<f32>) -> tensor<20xf32>
    %102 = chlo.polygamma %101, %arg0 : tensor<20xf32>, tensor<20xf32> -> tensor<20xf32>
    return %0, %1, %3, %4, %5, %6, %7, %10, %12, %13, %14, %15, %17, %19, %93, %98, %100, %102 : tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>, tensor<20xf32>
  }
  func.func private @arccosh(%arg0: tensor<20xf32>) -> tensor<20xf32> {
    %0 = chlo.acosh %arg0 : tensor<20xf32> -> tensor<20xf32>
    return %0 : tensor<20xf32>
  }
}
