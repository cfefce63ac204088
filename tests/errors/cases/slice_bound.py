import thalweg as tw

tw.function(lambda x, n: x[:n])(tw.ones((3,)), 2)

# -> TracingError: slice_bound.py:3: in <lambda>(): a slice's bound is a traced tensor: the shape would depend on
#    data. Use tw.dynamic_slice(x, starts, sizes), whose sizes are known.
