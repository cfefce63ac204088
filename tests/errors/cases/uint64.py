import numpy as np

import thalweg as tw

tw.asarray(np.ones(2, np.uint64)) + tw.arange(2)

# -> TypeInferenceError: uint64.py:5: no dtype holds both u64 and i32. Convert one of them with tw.astype.
