import thalweg as tw

tw.function(lambda x: x[x > 0])(tw.ones((3,)))

# -> TracingError: mask_index.py:3: in <lambda>(): a traced mask bool[3] as an index: the shape of the result would
#    depend on data. Use tw.where(mask, x, 0), or select outside the traced function.
