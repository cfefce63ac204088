import thalweg as tw


def loss(parameters):
    return tw.sum(parameters["w"])


tw.grad(loss)({"w": tw.arange(3)})

# -> TypeInferenceError: grad_of_integers.py:8: gradient of loss(): argument 0['w'] is i32[3]: only floating-point
#    tensors have gradients. Convert it with tw.astype, or leave it out of argnums.
