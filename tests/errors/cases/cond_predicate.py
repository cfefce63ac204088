import thalweg as tw

tw.function(lambda x: tw.cond(x > 0, lambda: x, lambda: -x))(tw.ones((3,)))

# -> TypeInferenceError: cond_predicate.py:3: in <lambda>(): cond: the predicate must be one value, got bool[3].
#    Reduce it with tw.any or tw.all.
