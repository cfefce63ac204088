"""Ahead of time: programs as native libraries with a C interface and nothing below them."""
