import thalweg as tw

step = tw.Variable(tw.arange(2), name="step")
step.assign_add(0.5)

# -> TypeInferenceError: assign_kind.py:4: assign_add to variable 'step': it holds i32[2], the value is 0.5. Convert
#    the value with tw.astype.
