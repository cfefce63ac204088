import thalweg as tw

w = tw.Variable(tw.ones((3,)), name="apply_no_gradient")
tw.optim.SGD(0.1).apply([(None, w)])

# -> TypeError: apply_no_gradient.py:4: apply: the gradient of 'apply_no_gradient' is None. Leave the variable out,
#    or ask for its gradient with wrt=[…].
