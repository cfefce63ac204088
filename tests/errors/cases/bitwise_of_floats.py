import thalweg as tw

tw.ones((2,)) & tw.ones((2,))

# -> TypeInferenceError: bitwise_of_floats.py:3: and: not defined for f32: got f32[2]. It takes i64, i32, i16, i8,
#    u64, u32, u16, u8, bool.
