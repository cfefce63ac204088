import thalweg as tw

tw.function(lambda x: tw.cond(x > 0, lambda: (x, x), lambda: x))(tw.asarray(1.0))

# -> TypeInferenceError: cond_structures.py:3: in <lambda>(): cond: the branches return different structures: (*, *)
#    and *.
