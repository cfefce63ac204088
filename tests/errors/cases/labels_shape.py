import thalweg as tw

tw.nn.softmax_cross_entropy(tw.ones((2, 5)), tw.asarray([1, 2, 3]))

# -> ValueError: labels_shape.py:3: softmax_cross_entropy: integer labels must have shape (2,), got (3,). Reshape one
#    of the two.
