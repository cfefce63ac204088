import thalweg as tw

kept = []
tw.function(lambda x: kept.append(x) or x)(tw.ones((2,)))
tw.function(lambda x: x + kept[0])(tw.ones((2,)))

# -> LeakedTensorError: leak_into_other_function.py:5: in <lambda>(): a traced tensor f32[2], created at
#    leak_into_other_function.py:4: in <lambda>(), has escaped from lambda(), which has ended. Return it from there
#    instead of keeping it in a list, an attribute or a global; state that outlives a call belongs in a tw.Variable.
