import thalweg as tw

tw.scan(lambda carry, row: (carry, row["a"]), tw.zeros(()), {"a": tw.ones((2, 3)), "b": tw.ones((4,))})

# -> TypeInferenceError: scan_rows.py:3: scan: xs['b'] is f32[4], with 4 rows where 2 are expected.
