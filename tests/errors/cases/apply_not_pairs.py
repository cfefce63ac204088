import thalweg as tw

w = tw.Variable(tw.ones((3,)), name="w")
tw.optim.SGD(0.1).apply([tw.ones((3,))])

# -> TypeError: apply_not_pairs.py:4: apply: takes pairs (gradient, variable), got (EagerTensor). Use zip(gradients,
#    variables).
