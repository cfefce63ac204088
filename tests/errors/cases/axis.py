import thalweg as tw

tw.sum(tw.ones((2, 3)), axis=2)

# -> TypeInferenceError: axis.py:3: sum: axis 2 is out of range for 2 dimensions.
