import thalweg as tw

tw.sum({"a": 1})

# -> TypeError: not_an_array.py:3: expected something array-like, got dict: {'a': 1}
