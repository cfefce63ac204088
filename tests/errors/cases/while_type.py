import thalweg as tw


@tw.function
def f(x):
    return tw.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, tw.concat([v, v])), (0, x))


f(tw.ones((2,)))

# -> TypeInferenceError: while_type.py:6: in f(): while_loop: carry[1] starts as f32[2] but the body returns f32[4].
#    Types must not change from one iteration to the next; convert it in the body, or start with the other type.
