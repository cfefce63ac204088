import thalweg as tw

tw.function(lambda x, y: x > 0 and y > 0)(tw.asarray(1.0), tw.asarray(2.0))

# -> TracingError: and_on_data.py:3: in <lambda>(): the truth value of a traced tensor bool[]: its numbers are known
#    when the program runs, not while lambda() is traced. For `if` use tw.cond(pred, on_true, on_false, *operands) or
#    tw.where(pred, a, b), for `while` use tw.while_loop, for `and`, `or`, `not` use &, |, ~. An option that is no
#    data can be static: tw.function(f, static=('name',)).
