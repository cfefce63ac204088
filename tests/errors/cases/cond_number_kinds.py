import thalweg as tw


@tw.function
def f(x):
    return tw.cond(x > 0, lambda: 1, lambda: 2.5)


f(tw.ones(()))

# -> TypeInferenceError: cond_number_kinds.py:6: in f(): cond: the branches return different types: result is i32[]
#    in the true branch and f32[] in the false one. Convert or reshape so that both agree.
