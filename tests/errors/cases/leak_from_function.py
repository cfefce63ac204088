import thalweg as tw

kept = []


@tw.function
def f(x):
    kept.append(x * 2)
    return x


f(tw.ones((2,)))
kept[0] + 1

# -> LeakedTensorError: leak_from_function.py:13: a traced tensor f32[2], created at leak_from_function.py:8: in f(),
#    has escaped from f(), which has ended. Return it from there instead of keeping it in a list, an attribute or a
#    global; state that outlives a call belongs in a tw.Variable.
