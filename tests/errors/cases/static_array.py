import thalweg as tw

tw.function(lambda x, rate: x * rate, static=("rate",))(tw.ones((2,)), tw.asarray(0.1))

# -> TracingError: static_array.py:3: lambda(): 'rate' is static but got an array f32[]. Static arguments are
#    options: numbers, strings, functions.
