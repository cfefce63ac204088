import thalweg as tw


async def f(x):
    return x


tw.function(f)

# -> TypeError: asynchronous.py:8: tw.function: f() is asynchronous: calling it does not run its body, so nothing can
#    be traced. Return the values, a list of them say.
