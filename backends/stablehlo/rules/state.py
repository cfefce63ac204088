"""State: StableHLO is pure, variables are arguments and results by then."""

from __future__ import annotations

from thalweg.backends.stablehlo.table import never
from thalweg.dialects.ops import graph
from thalweg.dialects.ops import state as rows

for _row in (rows.variable_handle, rows.read, rows.assign, rows.assign_add, rows.assign_sub, rows.scatter_update):
    never(_row, "StableHLO has no state; run the passes 'hoist-state' and 'functionalize' first")
for _row in (graph.placeholder, graph.no_op):
    never(_row, "it stands in a graph only, never in the program of a step")
