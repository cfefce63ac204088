import thalweg as tw

value, pullback = tw.vjp(lambda x: {"y": x * 2}, tw.ones((3,)))
pullback({"y": tw.ones((2,))})

# -> TypeInferenceError: cotangents.py:4: pullback of lambda(): value['y'] is f32[3], its cotangent f32[2].
