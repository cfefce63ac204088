import thalweg as tw


@tw.function
def f(x):
    tw.save("checkpoint", {"x": x})


f(tw.ones((3,)))

# -> TracingError: save_in_trace.py:6: in f(): a NumPy array of a traced tensor f32[3]: its numbers are known when
#    the program runs, not while f() is traced. Use the functions of `thalweg`, or return it and convert outside.
