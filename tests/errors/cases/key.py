import thalweg as tw

tw.random.normal((2,), key=tw.ones((2,)))

# -> TypeInferenceError: key.py:3: random.normal: a key is u32[2], got f32[2]. Make one with tw.random.key(seed).
