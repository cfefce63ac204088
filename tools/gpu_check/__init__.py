"""`thalweg gpu-check`: all that a machine with a GPU can tell about the GPU backend, in one run and one report.

    thalweg gpu-check --out gpu-report

Each section runs in a process of its own, with an end: what crashes, or never ends, loses nothing of the others. It
writes what it finds line by line; the command puts it together (report.py). Without a GPU, `--simulated` runs the same
code on virtual GPUs with tiny sizes, and the report says so: it shows that the check works, and nothing of speed.
"""
