import thalweg as tw


def f(x):
    yield x


tw.function(f)

# -> TypeError: generator.py:8: tw.function: f() is a generator: calling it does not run its body, so nothing can be
#    traced. Return the values, a list of them say.
