import thalweg as tw


@tw.function
def f(x):
    with tw.device("/device:GPU:3"):
        return tw.exp(x)


f(tw.ones((3,)))

# -> PassError: no_such_device.py:7: in f(): exp asks for /device:GPU:3, which is not there. The devices are
#    /device:CPU:0. No GPU was found; `thalweg gpu-check` tells why. tw.config.set_virtual_devices(gpu=1) tries
#    programs for GPUs without one, thalweg translate --to triton (or ptx, cubin) makes the kernels.
