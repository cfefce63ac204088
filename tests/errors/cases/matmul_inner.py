import thalweg as tw


@tw.function
def loss(x, w):
    return tw.sum(x @ w)


loss(tw.ones((8, 16)), tw.ones((32, 4)))

# -> TypeInferenceError: matmul_inner.py:6: in loss(): matmul: inner dimensions differ: lhs f32[8,16] has 16, rhs
#    f32[32,4] has 32. Transpose rhs or reshape lhs.
