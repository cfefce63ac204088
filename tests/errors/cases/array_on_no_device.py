import thalweg as tw

tw.ones((3,), device="gpu")

# -> ValueError: array_on_no_device.py:3: there is no device '/device:GPU' here; this process has '/device:CPU:0'.
#    tw.config.set_virtual_devices(cpu=…) makes more.
