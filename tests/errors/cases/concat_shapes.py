import thalweg as tw

tw.concat([tw.ones((2, 3)), tw.ones((2, 4))])

# -> TypeInferenceError: concat_shapes.py:3: concatenate: f32[2,3] and f32[2,4] must agree in every dimension but 0.
#    Reshape or pad one of them.
