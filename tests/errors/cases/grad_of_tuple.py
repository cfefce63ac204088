import thalweg as tw

tw.grad(lambda x: (tw.sum(x), x))(tw.ones((3,)))

# -> TypeInferenceError: grad_of_tuple.py:3: gradient of lambda(): it returns a tuple, but gradients are of a
#    floating-point scalar. Return that alone, or (scalar, anything) with has_aux=True.
