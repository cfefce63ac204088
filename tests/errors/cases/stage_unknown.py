import thalweg as tw

tw.function(lambda x: x).ir("hlo", tw.ones(()))

# -> ValueError: stage_unknown.py:3: unknown stage 'hlo'. The stages are tw, tw-optimized, stablehlo, linalg,
#    kernels, llvm, asm, triton, ptx.
