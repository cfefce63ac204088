"""The ops that make summaries. Outside a trace they give the bytes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.location import user_frame
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import summary as rows
from thalweg.frontend.graph import Graph
from thalweg.frontend.tensor import ArrayLike, as_tensor
from thalweg.frontend.trace import Trace, current
from thalweg.runtime import summaries

_ROWS = frozenset(r.mlir_name for r in (rows.scalar_summary, rows.histogram_summary, rows.image_summary,
                                        rows.text_summary))  # fmt: skip


def scalar(tag: str, value: ArrayLike) -> Any:
    """Tell one number.

    Args:
        tag: its name; those with a common prefix `a/` are shown together. In a graph `tw.name_scope` puts its own
            before it.
        value: one number.

    Returns:
        In a graph or traced function a string tensor to be fetched; bytes otherwise.

    Example:
        >>> tw.summary.scalar("loss", loss)
    """
    return _emit(rows.scalar_summary, value, summaries.scalar, tag=tag)


def histogram(tag: str, values: ArrayLike) -> Any:
    """Tell the distribution of all elements: of weights, gradients, activations. NaN and infinities are errors."""
    return _emit(rows.histogram_summary, values, summaries.histogram, tag=tag)


def image(tag: str, images: ArrayLike, most: int = 3) -> Any:
    """Show up to `most` pictures of a batch [n, height, width, 1, 3 or 4]: uint8, or floats from 0 to 1."""
    return _emit(rows.image_summary, images, summaries.image, tag=tag, most=most)


def text(tag: str, value: Any) -> Any:
    """Tell a string, shown as Markdown."""
    if current() is None or isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        return summaries.text(tag, np.array(data, object))
    return _emit(rows.text_summary, value, summaries.text, tag=tag)


def merge(told: Sequence[Any]) -> Any:
    """Several summaries as one. No two may have the same tag."""
    trace = current()
    if trace is None:
        return summaries.merge([t if isinstance(t, bytes) else t.item() for t in told])
    return trace.emit(rows.merge_summary, list(told), {})[0]


def merge_all() -> Any:
    """All summaries of the current graph as one string tensor.

    Raises:
        TypeInferenceError: there is no current graph, or nothing in it is a summary.
    """
    trace = current()
    if trace is None:
        raise TypeInferenceError(f"{user_frame()} summary.merge_all: there is no current graph: graph.as_default().")
    found = [view.operation.results[0] for view in trace.block.operations if view.operation.name in _ROWS]
    if not found:
        raise TypeInferenceError(f"{user_frame()} summary.merge_all: the graph has no summaries.")
    return trace.emit_values(rows.merge_summary, found, {})[0]


def _emit(row: OpDef, value: Any, encode: Any, *, tag: str, **attrs: Any) -> Any:
    trace = current()
    if trace is not None:
        return trace.emit(row, [as_tensor(value)], {"tag": _scoped(trace, tag), **attrs})[0]
    data = np.asarray(as_tensor(value))
    types = [as_tensor(value).type]
    try:
        row.result_types(types, {"tag": tag, **attrs})
        return encode(tag, data, *attrs.values())
    except ValueError as error:
        raise TypeInferenceError(f"{user_frame()} {error}") from None


def _scoped(trace: Trace, tag: str) -> str:
    """The tag under the name scopes of a graph."""
    return f"{trace.prefix}{tag}" if isinstance(trace, Graph) else tag


__all__ = ["histogram", "image", "merge", "merge_all", "scalar", "text"]
