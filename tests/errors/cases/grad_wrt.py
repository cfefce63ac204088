import thalweg as tw

w = tw.ones((3,))
tw.grad(lambda: tw.sum(w), wrt=[w])()

# -> TypeInferenceError: grad_wrt.py:4: gradient of lambda(): wrt takes variables, got a tensor f32[3]. For arguments
#    of the function use argnums.
