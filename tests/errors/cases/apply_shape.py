import thalweg as tw

w = tw.Variable(tw.ones((3,)), name="apply_shape")
tw.optim.SGD(0.1).apply([(tw.ones((4,)), w)])

# -> ValueError: apply_shape.py:4: apply: the gradient of 'apply_shape' has shape (4,), the variable (3,).
