import thalweg as tw

tw.full((2,), 300, dtype=tw.int8)

# -> TypeInferenceError: full_range.py:3: full: 300 is outside the range of int8.
