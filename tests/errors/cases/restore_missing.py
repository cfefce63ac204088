import thalweg as tw

tw.restore("nowhere/checkpoint", {"w": tw.ones((3,))})

# -> FileNotFoundError: restore_missing.py:3: no checkpoint nowhere/checkpoint; there is no folder nowhere.
