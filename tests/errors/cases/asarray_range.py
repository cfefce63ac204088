import thalweg as tw

tw.asarray([1, 300], dtype=tw.int8)

# -> TypeInferenceError: asarray_range.py:3: asarray: numbers from 1 to 300 are outside the range of int8.
