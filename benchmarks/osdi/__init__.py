"""The experiments of the TensorFlow paper (OSDI 2016) and of its paper on control flow (EuroSys 2018), small.

Each module is a script, `python -m benchmarks.osdi.null_step`, that prints the paper's figure beside ours, writes JSON
and, where matplotlib is installed, a plot to benchmarks/results/osdi/. `python -m benchmarks.osdi` runs them all.
"""
