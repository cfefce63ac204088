import thalweg as tw


@tw.function
def f(n):
    return tw.zeros((n, 2))


f(tw.asarray(3))

# -> TypeInferenceError: shape_of_data.py:6: in f(): zeros: an extent is a traced tensor; shapes must be known while
#    tracing.
