import thalweg as tw

tw.asarray(2**70)

# -> TypeInferenceError: number_range.py:3: 1180591620717411303424 is outside the range of int64. Write it as a
#    float.
