"""Reading a checkpoint back: what goes where, what is missing, and all of it or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from thalweg.dialects.diagnostics import CheckpointError, did_you_mean
from thalweg.dialects.location import user_frame
from thalweg.frontend.train.leaves import Leaf, leaves_of
from thalweg.frontend.train.stores import LocalStore, SessionStore
from thalweg.frontend.variable import Variable
from thalweg.runtime.checkpoints import Checkpoint, open_checkpoint

if TYPE_CHECKING:
    from thalweg.frontend.session import Session

Rename: TypeAlias = Mapping[str, str] | Callable[[str], str]


def restore_checkpoint(
    checkpoint: Checkpoint | str | os.PathLike[str],
    tree: Any,
    *,
    rename: Rename | None = None,
    allow_missing: bool = False,
    allow_unused: bool = True,
    session: Session | None = None,
) -> list[str]:
    """Assign the variables of a tree from a checkpoint, or from a safetensors file.

    A variable that is sharded takes its rows, however the tensor was sharded when it was saved.

    Args:
        checkpoint: one of a manager's, or the path of its folder or of a safetensors file.
        tree: a nested structure of variables and of objects with a `variables()` method.
        rename: what a tensor is called in the checkpoint, from what it is called in the tree: a function, or a mapping
            of names or of their beginnings (`{"model.encoder": "encoder"}`).
        allow_missing: variables that the checkpoint does not have keep their values; otherwise they are an error.
        allow_unused: whether the checkpoint may have more than the tree.
        session: whose tasks hold the variables; each reads its own. By default they are in this process.

    Returns:
        Names of the variables that kept their values.

    Raises:
        CheckpointError: something is missing, of another shape or dtype, or damaged; all misfits are listed, and
            nothing has been assigned.

    Example:
        >>> tw.train.restore_checkpoint("pretrained", {"body": model.body}, rename={"body": "encoder"})
    """
    with _told():
        found = checkpoint if isinstance(checkpoint, Checkpoint) else open_checkpoint(Path(checkpoint))
    leaves = leaves_of(tree)
    _expect_variables(leaves)
    sources = {name: _renamed(leaf.part.name if leaf.part else name, rename) for name, leaf in leaves.items()}
    kept = [name for name in leaves if sources[name] not in found.types]
    problems = [] if allow_missing else [_missing(name, sources[name], found) for name in kept]
    problems += _misfits(leaves, sources, found)
    if not allow_unused:
        unused = sorted(set(found.types) - set(sources.values()))
        problems += [f"'{name}' of the checkpoint has no place in the tree" for name in unused]
    if problems:
        text = "\n  ".join(problems)
        raise CheckpointError(f"{user_frame()} {found.path} does not fit what is to be restored:\n  {text}")
    restored = {name: leaf for name, leaf in leaves.items() if name not in kept}
    store = LocalStore() if session is None else SessionStore(session)
    with _told():
        store.assign(found, restored, sources)
    return kept


@contextmanager
def _told() -> Iterator[None]:
    """Errors get the user's line."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{user_frame()} {error}") from None


def _renamed(name: str, rename: Rename | None) -> str:
    """The name in the checkpoint."""
    if rename is None:
        return name
    if not isinstance(rename, Mapping):
        return rename(name)
    begin, rest = name, ""
    while begin:
        if begin in rename:
            return f"{rename[begin]}{rest}".strip(".")
        begin, dot, last = begin.rpartition(".")
        rest = f"{dot}{last}{rest}"
    return name


def _expect_variables(leaves: Mapping[str, Leaf]) -> None:
    for name, leaf in leaves.items():
        if not isinstance(leaf.value, Variable):
            raise TypeError(
                f"{user_frame()} '{name}' is a {type(leaf.value).__name__}; checkpoints are restored into variables."
            )


def _missing(name: str, source: str, checkpoint: Checkpoint) -> str:
    called = f" (called '{source}')" if source != name else ""
    return f"'{name}'{called} is not in the checkpoint{did_you_mean(source, checkpoint.types)}"


def _misfits(leaves: Mapping[str, Leaf], sources: Mapping[str, str], checkpoint: Checkpoint) -> list[str]:
    found = []
    for name, leaf in leaves.items():
        stored = checkpoint.types.get(sources[name])
        wanted = leaf.type if leaf.part is None else leaf.type.with_shape(leaf.part.shape)
        if stored is not None and stored != wanted:
            found.append(f"'{name}' should be {wanted}, the checkpoint has {stored}")
    return found
