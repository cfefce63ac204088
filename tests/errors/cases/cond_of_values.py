import thalweg as tw


@tw.function
def f(x):
    return tw.cond(x > 0, x, -x)


f(tw.ones(()))

# -> TypeError: cond_of_values.py:6: in f(): cond: takes a function, got TracedTensor. Write lambda x: … and give its
#    arguments after it.
