import thalweg as tw

w = tw.Variable(tw.zeros((2, 3)), name="weights")
w.assign(tw.ones((4,)))

# -> TypeInferenceError: assign_shape.py:4: assign to variable 'weights': it holds f32[2,3], the value is f32[4].
#    Reshape the value.
