import thalweg as tw

tw.scan(lambda carry, row: carry + row, tw.zeros((3,)), tw.ones((2, 3)))

# -> TypeInferenceError: scan_pair.py:3: scan: the body must return a pair (carry, out), it returns a tensor f32[3].
