import thalweg as tw

tw.function(lambda x, shape: tw.reshape(x, shape["a"]), static=("shape",))(tw.ones((4,)), {"a": (2, 2)})

# -> TracingError: static_unhashable.py:3: lambda(): the static argument 'shape' is a dict, which cannot be hashed.
#    Use a tuple, a frozen dataclass or another hashable value.
