import thalweg as tw

tw.function(lambda x, y: x + y)(tw.ones((2,)))

# -> TypeError: missing_argument.py:3: lambda(): missing a required argument: 'y'
