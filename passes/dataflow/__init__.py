"""How `lower-control` works: contexts bring values into branches and iterations, the lowering walks."""
