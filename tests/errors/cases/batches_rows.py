import numpy as np

import thalweg as tw

tw.data.batches((np.ones((3,)), np.ones((4,))), 2)

# -> ValueError: batches_rows.py:5: batches: the arrays must have the same number of rows (their first extent), got
#    shapes (3,), (4,).
