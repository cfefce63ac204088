import thalweg as tw

tw.grad(lambda w: w * 2)(tw.ones((3,)))

# -> TypeInferenceError: grad_of_vector.py:3: gradient of lambda(): it returns f32[3], but gradients are of a
#    floating-point scalar. Reduce it with tw.sum or tw.mean, or use tw.vjp.
