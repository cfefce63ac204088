"""The `tw` dialect: types, ops as rows of a table, and how rows become MLIR."""
