import thalweg as tw


@tw.function
def clip(x):
    total = tw.sum(x)
    if total > 1:
        return x / total
    return x


clip(tw.ones((3,)))

# -> TracingError: branch_on_data.py:7: in clip(): the truth value of a traced tensor bool[]: its numbers are known
#    when the program runs, not while clip() is traced. For `if` use tw.cond(pred, on_true, on_false, *operands) or
#    tw.where(pred, a, b), for `while` use tw.while_loop, for `and`, `or`, `not` use &, |, ~. An option that is no
#    data can be static: tw.function(f, static=('name',)).
