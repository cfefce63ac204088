import thalweg as tw

tw.zeros((2, -3))

# -> TypeInferenceError: negative_extent.py:3: zeros: extents must not be negative, got [2, -3].
