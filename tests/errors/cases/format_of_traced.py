import thalweg as tw


@tw.function
def f(x):
    return f"{x:.3f}"


f(tw.ones(()))

# -> TracingError: format_of_traced.py:6: in f(): formatting (:.3f) of a traced tensor f32[]: its numbers are known
#    when the program runs, not while f() is traced. Return the tensor from the function and print it outside.
