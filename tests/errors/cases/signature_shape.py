import thalweg as tw

f = tw.function(lambda x: x, signature=[tw.spec((None, 3), tw.float32)])
f(tw.ones((2, 4)))

# -> ExecutionError: signature_shape.py:4: lambda(): argument 0 is f32[2,4], its signature says f32[?,3]. Convert or
#    reshape it, or widen the signature with None.
