import thalweg as tw


@tw.custom_gradient
def f(a, b):
    return a * b, lambda dy: dy


tw.grad(lambda a: tw.sum(f(a, a)))(tw.ones((3,)))

# -> TypeInferenceError: custom_gradient_count.py:9: in <lambda>(): the gradient of f() returns 1 cotangents for 2
#    arguments.
