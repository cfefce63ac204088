"""The GPU backend: the CPU backend's kernels, printed as Triton programs."""
