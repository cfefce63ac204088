"""Kernels of summaries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.runtime import summaries
from thalweg.runtime.kernels import Call, kernel
from thalweg.runtime.plan import Value


def _text(data: bytes) -> Sequence[Value]:
    return [np.array(data, object)]


@kernel("scalar_summary")
def scalar_summary(call: Call) -> Sequence[Value]:
    return _text(summaries.scalar(call.attrs["tag"], call.inputs[0]))


@kernel("histogram_summary")
def histogram_summary(call: Call) -> Sequence[Value]:
    return _text(summaries.histogram(call.attrs["tag"], call.inputs[0]))


@kernel("image_summary")
def image_summary(call: Call) -> Sequence[Value]:
    return _text(summaries.image(call.attrs["tag"], call.inputs[0], call.attrs["most"]))


@kernel("text_summary")
def text_summary(call: Call) -> Sequence[Value]:
    return _text(summaries.text(call.attrs["tag"], call.inputs[0]))


@kernel("merge_summary")
def merge_summary(call: Call) -> Sequence[Value]:
    return _text(summaries.merge([summary.item() for summary in call.inputs]))
