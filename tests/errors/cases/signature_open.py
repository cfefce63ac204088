import thalweg as tw

f = tw.function(lambda x: x, signature=[tw.spec((None, 3), tw.float32)])
f.ir("tw")

# -> ValueError: signature_open.py:4: f32[?,3] leaves extents open; give example arrays or a spec with numbers
