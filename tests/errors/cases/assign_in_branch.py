import thalweg as tw

w = tw.Variable(tw.ones((2,)), name="w")


@tw.function
def step(x):
    def loss():
        tw.cond(tw.sum(x) > 0, lambda: w.assign(x), lambda: w)
        return tw.sum(w)

    return tw.grad(loss, wrt=w)()


step(tw.ones((2,)))

# -> TracingError: assign_in_branch.py:9: in <lambda>(): w is assigned in the true branch of tw.cond while the
#    gradient with respect to it is taken. Assign it after the gradient.
