"""What a checkpoint is of: the variables and arrays of a tree, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thalweg.dialects.attributes import array_type
from thalweg.dialects.types import TensorType
from thalweg.frontend.saving import array_of, named_leaves
from thalweg.frontend.variable import Variable
from thalweg.runtime.checkpoints import Part


@dataclass(frozen=True)
class Leaf:
    """A variable or an array of a tree, and which rows of what it is."""

    value: Any
    part: Part | None

    @property
    def type(self) -> TensorType:
        """Of the leaf itself."""
        return self.value.type if isinstance(self.value, Variable) else array_type(array_of("a leaf", self.value))


def leaves_of(tree: Any) -> dict[str, Leaf]:
    """The leaves of a tree by name. One that is a piece of a sharded variable belongs to the name around its own:
    `table.shard_1` to `table`."""
    found = {}
    for name, value in named_leaves(tree)[0].items():
        part = value.part if isinstance(value, Variable) else None
        if part is not None:
            part = Part(name.rpartition(".")[0] or name, part.shape, part.rows)
        found[name] = Leaf(value, part)
    return found
