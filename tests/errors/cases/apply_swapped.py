import thalweg as tw

w = tw.Variable(tw.ones((3,)), name="w")
tw.optim.SGD(0.1).apply([(w, tw.ones((3,)))])

# -> TypeError: apply_swapped.py:4: apply: takes pairs (gradient, variable), got (Variable, EagerTensor). Use
#    zip(gradients, variables).
