import thalweg as tw

tw.stack([])

# -> TypeInferenceError: stack_of_nothing.py:3: stack: got no arrays. Give at least one.
