import thalweg as tw

tw.function(lambda x, training: x, static=("trainig",))

# -> TypeError: static_unknown.py:3: lambda() has no parameter 'trainig' to be static; did you mean 'training'?
