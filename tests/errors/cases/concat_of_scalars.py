import thalweg as tw

tw.concat([tw.ones((2,)), 3])

# -> TypeInferenceError: concat_of_scalars.py:3: concat: a scalar has no dimension to join along. Use tw.stack, or
#    reshape it to (1,).
