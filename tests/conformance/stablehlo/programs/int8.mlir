module @jit_int8 attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<4x8xi8>, %arg1: tensor<8x4xi8>) -> (tensor<4x4xi32> {jax.result_info = "result[0]"}, tensor<4x8xi8> {jax.result_info = "result[1]"}, tensor<4x8xi8> {jax.result_info = "result[2]"}, tensor<4x8xi8> {jax.result_info = "result[3]"}, tensor<4x8xi8> {jax.result_info = "result[4]"}, tensor<4x8xi8> {jax.result_info = "result[5]"}, tensor<4x8xi8> {jax.result_info = "result[6]"}, tensor<4x8xi8> {jax.result_info = "result[7]"}, tensor<4x8xi8> {jax.result_info = "result[8]"}, tensor<4x8xi8> {jax.result_info = "result[9]"}, tensor<4x8xi8> {jax.result_info = "result[10]"}) {
    %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [0], precision = [DEFAULT, DEFAULT] : (tensor<4x8xi8>, tensor<8x4xi8>) -> tensor<4x4xi32>
    %1 = stablehlo.transpose %arg1, dims = [1, 0] : (tensor<8x4xi8>) -> tensor<4x8xi8>
    %2 = stablehlo.add %arg0, %1 : tensor<4x8xi8>
    %c = stablehlo.constant dense<3> : tensor<i32>
    %3 = call @floor_divide(%arg0, %c) : (tensor<4x8xi8>, tensor<i32>) -> tensor<4x8xi8>
    %c_0 = stablehlo.constant dense<5> : tensor<i32>
    %4 = call @remainder(%arg0, %c_0) : (tensor<4x8xi8>, tensor<i32>) -> tensor<4x8xi8>
    %5 = stablehlo.negate %arg0 : tensor<4x8xi8>
    %6 = stablehlo.multiply %arg0, %arg0 : tensor<4x8xi8>
    %c_1 = stablehlo.constant dense<1> : tensor<i8>
    %7 = stablehlo.broadcast_in_dim %c_1, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %8 = stablehlo.shift_right_arithmetic %arg0, %7 : tensor<4x8xi8>
    %c_2 = stablehlo.constant dense<2> : tensor<i8>
    %9 = stablehlo.broadcast_in_dim %c_2, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %10 = stablehlo.shift_left %arg0, %9 : tensor<4x8xi8>
    %c_3 = stablehlo.constant dense<3> : tensor<i8>
    %11 = stablehlo.broadcast_in_dim %c_3, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %12 = stablehlo.and %arg0, %11 : tensor<4x8xi8>
    %13 = stablehlo.transpose %arg1, dims = [1, 0] : (tensor<8x4xi8>) -> tensor<4x8xi8>
    %14 = stablehlo.xor %arg0, %13 : tensor<4x8xi8>
    %15 = stablehlo.not %arg0 : tensor<4x8xi8>
    return %0, %2, %3, %4, %5, %6, %8, %10, %12, %14, %15 : tensor<4x4xi32>, tensor<4x8xi8>, tensor<4x8xi8>, tensor<4x8xi8>, tensor<4x8xi8>, tensor<4x8xi8>, tensor<4x8xi8>, tensor<4x8xi8>, tensor<4x8xi8>, tensor<4x8xi8>, tensor<4x8xi8>
  }
  func.func private @floor_divide(%arg0: tensor<4x8xi8>, %arg1: tensor<i32>) -> tensor<4x8xi8> {
    %0 = stablehlo.convert %arg1 : (tensor<i32>) -> tensor<i8>
    %1 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %2 = stablehlo.divide %arg0, %1 : tensor<4x8xi8>
    %3 = stablehlo.sign %arg0 : tensor<4x8xi8>
    %4 = stablehlo.sign %0 : tensor<i8>
    %5 = stablehlo.broadcast_in_dim %4, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %6 = stablehlo.compare NE, %3, %5, SIGNED : (tensor<4x8xi8>, tensor<4x8xi8>) -> tensor<4x8xi1>
    %7 = stablehlo.broadcast_in_dim %0, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %8 = stablehlo.remainder %arg0, %7 : tensor<4x8xi8>
    %c = stablehlo.constant dense<0> : tensor<i8>
    %9 = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %10 = stablehlo.compare NE, %8, %9, SIGNED : (tensor<4x8xi8>, tensor<4x8xi8>) -> tensor<4x8xi1>
    %11 = stablehlo.and %6, %10 : tensor<4x8xi1>
    %c_0 = stablehlo.constant dense<1> : tensor<i8>
    %12 = stablehlo.broadcast_in_dim %c_0, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %13 = stablehlo.subtract %2, %12 : tensor<4x8xi8>
    %14 = call @_where(%11, %13, %2) : (tensor<4x8xi1>, tensor<4x8xi8>, tensor<4x8xi8>) -> tensor<4x8xi8>
    return %14 : tensor<4x8xi8>
  }
  func.func private @_where(%arg0: tensor<4x8xi1>, %arg1: tensor<4x8xi8>, %arg2: tensor<4x8xi8>) -> tensor<4x8xi8> {
    %0 = stablehlo.select %arg0, %arg1, %arg2 : tensor<4x8xi1>, tensor<4x8xi8>
    return %0 : tensor<4x8xi8>
  }
  func.func private @remainder(%arg0: tensor<4x8xi8>, %arg1: tensor<i32>) -> tensor<4x8xi8> {
    %0 = stablehlo.convert %arg1 : (tensor<i32>) -> tensor<i8>
    %c = stablehlo.constant dense<0> : tensor<i8>
    %1 = stablehlo.compare EQ, %0, %c, SIGNED : (tensor<i8>, tensor<i8>) -> tensor<i1>
    %c_0 = stablehlo.constant dense<1> : tensor<i8>
    %2 = call @_where_0(%1, %c_0, %0) : (tensor<i1>, tensor<i8>, tensor<i8>) -> tensor<i8>
    %3 = stablehlo.broadcast_in_dim %2, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %4 = stablehlo.remainder %arg0, %3 : tensor<4x8xi8>
    %c_1 = stablehlo.constant dense<0> : tensor<i8>
    %5 = stablehlo.broadcast_in_dim %c_1, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %6 = stablehlo.compare NE, %4, %5, SIGNED : (tensor<4x8xi8>, tensor<4x8xi8>) -> tensor<4x8xi1>
    %c_2 = stablehlo.constant dense<0> : tensor<i8>
    %7 = stablehlo.broadcast_in_dim %c_2, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %8 = stablehlo.compare LT, %4, %7, SIGNED : (tensor<4x8xi8>, tensor<4x8xi8>) -> tensor<4x8xi1>
    %c_3 = stablehlo.constant dense<0> : tensor<i8>
    %9 = stablehlo.compare LT, %2, %c_3, SIGNED : (tensor<i8>, tensor<i8>) -> tensor<i1>
    %10 = stablehlo.broadcast_in_dim %9, dims = [] : (tensor<i1>) -> tensor<4x8xi1>
    %11 = stablehlo.compare NE, %8, %10, UNSIGNED : (tensor<4x8xi1>, tensor<4x8xi1>) -> tensor<4x8xi1>
    %12 = stablehlo.and %11, %6 : tensor<4x8xi1>
    %13 = stablehlo.broadcast_in_dim %2, dims = [] : (tensor<i8>) -> tensor<4x8xi8>
    %14 = stablehlo.add %4, %13 : tensor<4x8xi8>
    %15 = stablehlo.select %12, %14, %4 : tensor<4x8xi1>, tensor<4x8xi8>
    return %15 : tensor<4x8xi8>
  }
  func.func private @_where_0(%arg0: tensor<i1>, %arg1: tensor<i8>, %arg2: tensor<i8>) -> tensor<i8> {
    %0 = stablehlo.select %arg0, %arg1, %arg2 : tensor<i1>, tensor<i8>
    return %0 : tensor<i8>
  }
}
