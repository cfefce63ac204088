"""Rules of state ops: none is left inside what is differentiated once `hoist-state` has run."""

from thalweg.dialects.ops import comm, control, graph, state
from thalweg.passes.gradients.rules import no_vjp

no_vjp(
    "reads and writes of variables must stand outside what is differentiated: run hoist-state first",
    state.read, state.assign, state.assign_add, state.assign_sub, state.scatter_update, error=True,
)
no_vjp("a handle is not a number", state.variable_handle)
no_vjp("expanded by differentiate itself", control.vjp, control.pullback, control.call, control.yield_)
no_vjp("it is made after differentiation, by the pass cluster", comm.cluster)
no_vjp("stands in a graph only, never in the program of a step", graph.placeholder, graph.no_op)
no_vjp("the size of a tensor does not depend on its numbers", graph.extent)
