"""Program to program: each pass takes a `tw` module and leaves a `tw` module that means the same."""
