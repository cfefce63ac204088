import thalweg as tw


@tw.function
def f(x):
    return x.numpy()


f(tw.ones(()))

# -> TracingError: numpy_method.py:6: in f(): numpy() of a traced tensor f32[]: its numbers are known when the
#    program runs, not while f() is traced. Return the tensor from the function and read it outside.
