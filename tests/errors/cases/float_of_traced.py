import thalweg as tw

tw.function(lambda x: float(x) + 1)(tw.asarray(1.0))

# -> TracingError: float_of_traced.py:3: in <lambda>(): float() of a traced tensor f32[]: its numbers are known when
#    the program runs, not while lambda() is traced. Use tw.astype(x, tw.float32), or make a number that is no data
#    static.
