import thalweg as tw

tw.restore(__file__, {"w": tw.ones((3,))})

# -> ValueError: restore_garbage.py:3: restore_garbage.py is not a safetensors file that can be read: it does not
#    begin with the length of a header that it could hold.
