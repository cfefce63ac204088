import thalweg as tw

tw.ones((3,), device="gpu")

# -> ValueError: array_on_no_device.py:3: there is no device '/device:GPU' here; this process has '/device:CPU:0'.
#    No GPU was found; `thalweg gpu-check` tells why. tw.config.set_virtual_devices(gpu=1) tries programs for GPUs
#    without one, thalweg translate --to triton (or ptx, cubin) makes the kernels.
