import thalweg as tw

tw.grad(lambda w: tw.sum(w), argnums=1)(tw.ones((3,)))

# -> TypeInferenceError: grad_argnums.py:3: gradient of lambda(): argnums 1 needs that positional argument, got 1.
#    For variables use wrt=[…].
