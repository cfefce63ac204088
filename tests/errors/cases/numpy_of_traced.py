import numpy as np

import thalweg as tw

tw.function(lambda x: np.sum(x))(tw.ones((3,)))

# -> TracingError: numpy_of_traced.py:5: in <lambda>(): a NumPy array of a traced tensor f32[3]: its numbers are
#    known when the program runs, not while lambda() is traced. Use the functions of `thalweg`, or return it and
#    convert outside.
