import thalweg as tw

tw.function(lambda x: tw.Variable(x))(tw.ones((2,)))

# -> TracingError: variable_in_trace.py:3: in <lambda>(): a variable is made from a traced tensor f32[2]. Variables
#    outlive calls: make it outside the traced function, or give a function as its initial value: tw.Variable(lambda:
#    …).
