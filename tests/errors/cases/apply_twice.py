import thalweg as tw

w = tw.Variable(tw.ones((3,)), name="apply_twice")
gradient = tw.ones((3,))
tw.optim.SGD(0.1).apply([(gradient, w), (gradient, w)])

# -> ValueError: apply_twice.py:5: apply: variable 'apply_twice' comes twice. Add its gradients up first.
