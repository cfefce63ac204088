"""Runs programs on GPUs: what the GPU backend made is launched here, without Triton."""
