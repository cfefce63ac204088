import thalweg as tw


@tw.function
def f(x):
    return tw.cond(tw.sum(x) > 0, lambda v: {"y": v}, lambda v: {"y": v[0]}, x)


f(tw.ones((2, 3)))

# -> TypeInferenceError: cond_types.py:6: in f(): cond: the branches return different types: result['y'] is f32[2,3]
#    in the true branch and f32[3] in the false one. Convert or reshape so that both agree.
