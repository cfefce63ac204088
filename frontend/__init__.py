"""What a person writes: tensors, tracing, the array functions, layers, optimisers. Builds `tw` IR; knows no backend."""
