import thalweg as tw


@tw.function
def f(x, i):
    return x[i]


f(tw.ones((3,)), tw.ones(()))

# -> TypeInferenceError: index_of_traced_float.py:6: in f(): indexing: an index must be of integers, slices, None,
#    ... or masks, got f32[].
