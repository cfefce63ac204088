"""Exported models beside LiteRT and ONNX Runtime: size, start, latency on one thread, memory.

    python -m benchmarks.export --peers-python peers/bin/python
"""
