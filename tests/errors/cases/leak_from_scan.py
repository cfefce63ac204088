import thalweg as tw


@tw.function
def f(xs):
    rows = []

    def body(carry, row):
        rows.append(row * 2)
        return carry + row, None

    tw.scan(body, tw.zeros((2,)), xs)
    return rows[0]


f(tw.ones((3, 2)))

# -> LeakedTensorError: leak_from_scan.py:16: a traced tensor f32[2], created at leak_from_scan.py:9: in body(), has
#    escaped from the body of tw.scan, which has ended. Return it from there instead of keeping it in a list, an
#    attribute or a global; state that outlives a call belongs in a tw.Variable.
