import thalweg as tw


@tw.function
def repeat(x, times):
    for _ in range(times):
        x = x + 1
    return x


repeat(tw.ones((3,)), 4)

# -> TracingError: range_over_data.py:6: in repeat(): a Python index of a traced tensor i32[]: its numbers are known
#    when the program runs, not while repeat() is traced. To pick elements use x[i], tw.take or tw.dynamic_slice; for
#    `range` use tw.scan or tw.while_loop.
