"""TPUs, by way of the PJRT client that the `jax` package brings: compiling, memory, exported models."""
