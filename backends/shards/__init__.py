"""A batch shared out among several GPUs of one process: a StableHLO module becomes what each of them does.

rules      what each op needs split, and what it gives split, by its operands
decide     which axis of each value is split, forwards through a function
split      rewrite: types become local, sums over the batch become collectives
"""
