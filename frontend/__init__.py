"""What a person writes: tensors, tracing, the array functions, layers, optimisers. Builds `tw` IR; knows no backend."""

import thalweg.frontend.array  # noqa: F401  (fills in the operators of tensors)
