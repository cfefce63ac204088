import thalweg as tw

tw.ones((2, 3)) + tw.ones((4,))

# -> TypeInferenceError: broadcast.py:3: add: shapes do not broadcast: f32[2,3] and f32[4]: dimension -1 is 3 and 4.
#    Reshape, or add a dimension of extent 1.
