import thalweg as tw

tw.zeros((2.5, 3))

# -> TypeInferenceError: extent_of_float.py:3: zeros: extents are integers, got [2.5, 3].
