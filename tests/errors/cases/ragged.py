import thalweg as tw

tw.asarray([[1, 2], [3]])

# -> TypeError: ragged.py:3: the nested lists are ragged: setting an array element with a sequence. The requested
#    array has an inhomogeneous shape after 1 dimensions. The detected shape was (2,) + inhomogeneous part.
