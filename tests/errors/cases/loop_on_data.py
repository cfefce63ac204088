import thalweg as tw


@tw.function
def halve(x):
    while tw.max(x) > 1:
        x = x / 2
    return x


halve(tw.ones((3,)))

# -> TracingError: loop_on_data.py:6: in halve(): the truth value of a traced tensor bool[]: its numbers are known
#    when the program runs, not while halve() is traced. For `if` use tw.cond(pred, on_true, on_false, *operands) or
#    tw.where(pred, a, b), for `while` use tw.while_loop, for `and`, `or`, `not` use &, |, ~. An option that is no
#    data can be static: tw.function(f, static=('name',)).
