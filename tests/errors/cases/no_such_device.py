import thalweg as tw

with tw.device("/device:GPU:3"):
    pass

# -> ValueError: no_such_device.py:3: there is no device '/device:GPU:3' here; this process has '/device:CPU:0'
