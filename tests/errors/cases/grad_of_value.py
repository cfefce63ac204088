import thalweg as tw

x = tw.ones((3,))
tw.grad(tw.sum(x))(x)

# -> TypeError: grad_of_value.py:4: grad: takes a function, got EagerTensor. Write lambda x: … and give its arguments
#    after it.
