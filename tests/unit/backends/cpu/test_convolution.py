"""Convolutions and their gradients: whole programs against StableHLO's reference interpreter."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest
from stablehlo_text import compare, tensor

from thalweg.backends.cpu.transposed import phases

NHWC = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"
NCHW = "[b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1]"


@dataclass(frozen=True)
class Conv:
    """A convolution op on %x and %w."""

    lhs: tuple[int, ...]
    rhs: tuple[int, ...]
    out: tuple[int, ...]
    window: str
    dims: str = NHWC
    groups: int = 1
    batch_groups: int = 1
    element: str = "f32"

    def text(self) -> str:
        lhs, rhs, out = (tensor(s, self.element) for s in (self.lhs, self.rhs, self.out))
        return f"""func.func @main(%x: {lhs}, %w: {rhs}) -> {out} {{
          %0 = stablehlo.convolution(%x, %w) dim_numbers = {self.dims}, window = {{{self.window}}}
            {{batch_group_count = {self.batch_groups} : i64, feature_group_count = {self.groups} : i64}}
            : ({lhs}, {rhs}) -> {out}
          return %0 : {out} }}"""


CONVOLUTIONS = {
    "same": Conv((2, 9, 9, 3), (3, 3, 3, 20), (2, 9, 9, 20), "pad = [[1, 1], [1, 1]]"),
    "one channel": Conv((2, 9, 9, 1), (5, 5, 1, 8), (2, 9, 9, 8), "pad = [[2, 2], [2, 2]]"),
    "strided": Conv((2, 9, 10, 3), (3, 3, 3, 20), (2, 4, 4, 20), "stride = [2, 2]"),
    "dilated": Conv((2, 9, 9, 3), (3, 3, 3, 17), (2, 5, 5, 17), "rhs_dilate = [2, 2]"),
    "transposed": Conv((2, 4, 4, 3), (3, 3, 3, 20), (2, 9, 9, 20), "pad = [[2, 2], [2, 2]], lhs_dilate = [2, 2]"),
    "transposed, few results": Conv(
        (2, 4, 4, 20), (3, 3, 20, 3), (2, 9, 9, 3), "pad = [[2, 2], [2, 2]], lhs_dilate = [2, 2]"
    ),
    "transposed, few results, reversed": Conv(
        (2, 4, 4, 20),
        (3, 2, 20, 3),
        (2, 8, 10, 3),
        "pad = [[2, 1], [1, 3]], lhs_dilate = [2, 2], reverse = [true, false]",
    ),
    "transposed 1-D, few results, with a rest": Conv(
        (2, 7, 9), (4, 9, 2), (2, 21, 2), "pad = [[1, 4]], lhs_dilate = [3]", "[b, 0, f]x[0, i, o]->[b, 0, f]"
    ),
    "gradient of depthwise kernels": Conv(
        (2, 9, 8, 20),
        (2, 9, 8, 20),
        (3, 3, 1, 20),
        "pad = [[1, 1], [1, 1]]",
        "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
        batch_groups=20,
    ),
    "gradient of strided depthwise kernels": Conv(
        (2, 11, 24, 35),
        (2, 5, 8, 35),
        (3, 2, 1, 35),
        "pad = [[1, -1], [0, -1]], rhs_dilate = [2, 3]",
        "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
        batch_groups=35,
    ),
    "gradient of dilated depthwise kernels": Conv(
        (1, 12, 13, 16),
        (1, 8, 9, 16),
        (3, 3, 1, 16),
        "stride = [3, 2], pad = [[2, 1], [1, 0]]",
        "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
        batch_groups=16,
    ),
    "gradient of small groups": Conv(
        (2, 9, 13, 20),
        (2, 9, 13, 20),
        (3, 3, 4, 20),
        "pad = [[1, 1], [1, 1]]",
        "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
        batch_groups=5,
    ),
    "gradient of strided small groups": Conv(
        (2, 11, 41, 40),
        (2, 5, 20, 40),
        (3, 2, 8, 40),
        "pad = [[1, -1], [0, -1]], rhs_dilate = [2, 2]",
        "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
        batch_groups=5,
    ),
    "gradient of dilated 1-D small groups": Conv(
        (2, 30, 6), (2, 26, 12), (3, 1, 12), "stride = [2]", "[f, 0, b]x[i, 0, o]->[0, b, f]", batch_groups=6
    ),
    "gradient of small groups, f64": Conv(
        (1, 12, 6),
        (1, 12, 3),
        (5, 2, 3),
        "pad = [[2, 2]]",
        "[f, 0, b]x[i, 0, o]->[0, b, f]",
        batch_groups=3,
        element="f64",
    ),
    "gradient of 1-D depthwise kernels": Conv(
        (2, 30, 5), (2, 27, 5), (6, 1, 5), "pad = [[1, 1]]", "[f, 0, b]x[i, 0, o]->[0, b, f]", batch_groups=5
    ),
    "one channel in and out": Conv((2, 9, 9, 1), (3, 3, 1, 1), (2, 9, 9, 1), "pad = [[1, 1], [1, 1]]"),
    "reversed": Conv((2, 6, 6, 3), (3, 3, 3, 20), (2, 4, 4, 20), "reverse = [true, true]"),
    "cropped": Conv((2, 9, 9, 3), (3, 3, 3, 4), (2, 5, 6, 4), "pad = [[-1, -1], [0, -1]]"),
    "grouped": Conv((2, 5, 5, 6), (3, 3, 2, 9), (2, 3, 3, 9), "", groups=3),
    "grouped and reversed": Conv((2, 5, 5, 6), (3, 2, 2, 9), (2, 3, 4, 9), "reverse = [true, false]", groups=3),
    "depthwise": Conv((2, 5, 5, 20), (3, 3, 1, 20), (2, 3, 3, 20), "", groups=20),
    "depthwise with a multiplier": Conv((2, 5, 5, 6), (3, 3, 1, 18), (2, 3, 3, 18), "", groups=6),
    "batch groups": Conv((4, 5, 5, 6), (3, 3, 6, 8), (2, 3, 3, 8), "", batch_groups=2),
    "channels first": Conv((2, 3, 9, 9), (20, 3, 3, 3), (2, 20, 9, 9), "pad = [[1, 1], [1, 1]]", NCHW),
    "channels first, strided": Conv((2, 3, 9, 9), (20, 3, 3, 3), (2, 20, 4, 4), "stride = [2, 2]", NCHW),
    "channels first, depthwise": Conv((2, 4, 9, 9), (4, 1, 3, 3), (2, 4, 7, 7), "", NCHW, groups=4),
    "gradient of the data": Conv(
        (2, 9, 9, 20),
        (3, 3, 3, 20),
        (2, 9, 9, 3),
        "pad = [[1, 1], [1, 1]], reverse = [true, true]",
        "[b, 0, 1, f]x[0, 1, o, i]->[b, 0, 1, f]",
    ),
    "gradient of the kernel": Conv(
        (2, 9, 9, 3), (2, 9, 9, 20), (3, 3, 3, 20), "pad = [[1, 1], [1, 1]]", "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]"
    ),
    "gradient of a strided kernel": Conv(
        (2, 9, 9, 3), (2, 4, 4, 20), (3, 3, 3, 20), "rhs_dilate = [2, 2]", "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]"
    ),
    "gradient of a strided kernel, padded": Conv(
        (2, 9, 8, 3),
        (2, 5, 4, 5),
        (3, 5, 3, 5),
        "pad = [[1, 1], [1, 2]], stride = [1, 1], rhs_dilate = [2, 2]",
        "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
    ),
    "dilated, strided and cropped": Conv(
        (2, 12, 9, 3), (3, 2, 3, 5), (2, 4, 4, 5), "stride = [2, 1], pad = [[0, -1], [-1, 0]], rhs_dilate = [2, 4]"
    ),
    "dilated on both sides": Conv(
        (1, 4, 5, 3), (3, 3, 3, 5), (1, 5, 5, 5), "pad = [[1, 1], [1, 1]], lhs_dilate = [2, 1], rhs_dilate = [2, 1]"
    ),
    "dilated and reversed": Conv(
        (1, 9, 9, 3), (3, 3, 3, 5), (1, 5, 5, 5), "rhs_dilate = [2, 2], reverse = [true, true]"
    ),
    "small groups": Conv((2, 9, 35, 24), (3, 3, 4, 24), (2, 9, 35, 24), "pad = [[1, 1], [1, 1]]", groups=6),
    "small groups, strided": Conv(
        (1, 12, 41, 40), (3, 4, 8, 20), (1, 6, 20, 20), "stride = [2, 2], pad = [[1, 1], [1, 1]]", groups=5
    ),
    "small groups, dilated": Conv(
        (2, 30, 6), (3, 3, 8), (2, 26, 8), "rhs_dilate = [2]", "[b, 0, f]x[0, i, o]->[b, 0, f]", groups=2
    ),
    "small groups, outputs before inputs": Conv(
        (2, 7, 9, 32),
        (3, 3, 32, 4),
        (2, 7, 9, 32),
        "pad = [[1, 1], [1, 1]], reverse = [true, true]",
        "[b, 0, 1, f]x[0, 1, o, i]->[b, 0, 1, f]",
        groups=8,
    ),
    "small groups of f64": Conv((2, 9, 9, 20), (3, 3, 4, 10), (2, 7, 7, 10), "", groups=5, element="f64"),
    "wide groups": Conv((2, 12, 11, 36), (3, 3, 12, 60), (2, 12, 11, 60), "pad = [[1, 1], [1, 1]]", groups=3),
    "wide groups, several blocks": Conv((1, 43, 30, 16), (3, 3, 8, 66), (1, 41, 28, 66), "", groups=2),
    "wide groups, strided": Conv(
        (2, 25, 35, 36), (3, 3, 12, 60), (2, 13, 18, 60), "stride = [2, 2], pad = [[1, 1], [1, 1]]", groups=3
    ),
    "wide groups, channels first": Conv(
        (2, 48, 20, 21), (32, 24, 3, 3), (2, 32, 20, 21), "pad = [[1, 1], [1, 1]]", NCHW, groups=2
    ),
    "gradient of the kernels of groups": Conv(
        (4, 12, 13, 21),
        (4, 12, 13, 60),
        (3, 3, 7, 60),
        "pad = [[1, 1], [1, 1]]",
        "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
        batch_groups=3,
    ),
    "gradient of the strided kernels of groups": Conv(
        (2, 13, 15, 60),
        (2, 7, 8, 24),
        (3, 3, 20, 24),
        "pad = [[1, 1], [1, 1]], rhs_dilate = [2, 2]",
        "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
        batch_groups=3,
    ),
    "dilated and grouped": Conv((1, 9, 9, 4), (3, 3, 2, 6), (1, 5, 5, 6), "rhs_dilate = [2, 2]", groups=2),
    "dilated, channels first": Conv((2, 3, 9, 9), (5, 3, 3, 3), (2, 5, 5, 5), "rhs_dilate = [2, 2]", NCHW),
    "dilated 1-D": Conv((2, 30, 3), (4, 3, 5), (2, 21, 5), "rhs_dilate = [3]", "[b, 0, f]x[0, i, o]->[b, 0, f]"),
    "dilated i32": Conv((1, 9, 9, 3), (3, 3, 3, 5), (1, 5, 5, 5), "rhs_dilate = [2, 2]", element="i32"),
    "1-D": Conv((2, 30, 3), (4, 3, 5), (2, 27, 5), "", "[b, 0, f]x[0, i, o]->[b, 0, f]"),
    "3-D": Conv(
        (1, 4, 5, 6, 2), (2, 2, 2, 2, 7), (1, 3, 4, 5, 7), "", "[b, 0, 1, 2, f]x[0, 1, 2, i, o]->[b, 0, 1, 2, f]"
    ),
    "0-D": Conv((5, 7), (7, 3), (5, 3), "", "[b, f]x[i, o]->[b, f]"),
    "f64": Conv((2, 6, 6, 3), (3, 3, 3, 20), (2, 4, 4, 20), "", element="f64"),
    "i32": Conv((2, 6, 6, 3), (3, 3, 3, 20), (2, 4, 4, 20), "", element="i32"),
    "i8": Conv((2, 6, 6, 3), (2, 2, 3, 5), (2, 5, 5, 5), "", element="i8"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str) -> None:
    conv = CONVOLUTIONS[name]
    compare(conv.text(), [conv.lhs, conv.rhs], conv.element)


TRANSPOSED = {
    "3x3 by 2": Conv((2, 5, 4, 20), (3, 3, 20, 3), (2, 10, 8, 3), "pad = [[1, 2], [1, 2]], lhs_dilate = [2, 2]"),
    "1x1 by 2, zeros between": Conv(
        (2, 5, 4, 6), (1, 1, 6, 3), (2, 10, 7, 3), "pad = [[0, 1], [0, 0]], lhs_dilate = [2, 2]"
    ),
    "7x7 by 2": Conv((1, 6, 6, 5), (7, 7, 5, 3), (1, 12, 11, 3), "pad = [[3, 4], [3, 3]], lhs_dilate = [2, 2]"),
    "11x11 by 4": Conv((1, 5, 6, 4), (11, 11, 4, 3), (1, 27, 30, 3), "pad = [[10, 10], [9, 10]], lhs_dilate = [4, 4]"),
    "one dimension": Conv((1, 5, 6, 4), (3, 3, 4, 3), (1, 9, 4, 3), "pad = [[1, 1], [0, 0]], lhs_dilate = [2, 1]"),
    "cropped": Conv((1, 5, 6, 4), (3, 3, 4, 3), (1, 4, 7, 3), "pad = [[-1, -2], [0, -2]], lhs_dilate = [2, 2]"),
    "fewer results than phases": Conv(
        (1, 1, 1, 4), (3, 3, 4, 3), (1, 2, 1, 3), "pad = [[1, 2], [1, 1]], lhs_dilate = [3, 3]"
    ),
    "many phases": Conv((1, 2, 2, 4), (3, 3, 4, 3), (1, 4, 4, 3), "lhs_dilate = [5, 5]"),
    "many phases, most of them empty": Conv(
        (1, 3, 4, 3, 5), (2, 2, 2, 5, 18), (1, 9, 11, 9, 18), "pad = [[1, 2], [1, 1], [1, 2]], lhs_dilate = [3, 3, 3]",
        "[b, 0, 1, 2, f]x[0, 1, 2, i, o]->[b, 0, 1, 2, f]",
    ),
    "strided too": Conv((1, 4, 4, 4), (3, 3, 4, 3), (1, 3, 3, 3), "stride = [2, 2], lhs_dilate = [2, 2]"),
    "depthwise": Conv(
        (1, 5, 5, 20), (3, 3, 1, 20), (1, 10, 10, 20), "pad = [[1, 2], [2, 1]], lhs_dilate = [2, 2]", groups=20
    ),
    "grouped": Conv(
        (1, 5, 5, 6), (3, 3, 2, 9), (1, 10, 10, 9), "pad = [[1, 2], [1, 2]], lhs_dilate = [2, 2]", groups=3
    ),
    "channels first": Conv(
        (2, 3, 5, 5), (4, 3, 3, 3), (2, 4, 9, 9), "pad = [[1, 1], [1, 1]], lhs_dilate = [2, 2]", NCHW
    ),
    "f64 1-D": Conv(
        (2, 7, 3), (5, 3, 4), (2, 21, 4), "pad = [[3, 3]], lhs_dilate = [3]", "[b, 0, f]x[0, i, o]->[b, 0, f]",
        element="f64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolution(name: str) -> None:
    conv = TRANSPOSED[name]
    compare(conv.text(), [conv.lhs, conv.rhs], conv.element)


def test_phases_take_each_element_of_the_window_once() -> None:
    for image, window, step, low in product((1, 4), (1, 3, 7), (2, 3), (-1, 0, 2)):
        for phase in phases(image, window, 9, step, low):
            places = range(phase.first, 9, phase.step)
            assert len(places) == phase.count
            meets_image = [k for k in range(window) if (phase.first + k - low) % step == 0]
            assert meets_image == list(range(phase.start, window, step)) and len(meets_image) == phase.window


SAME = "pad = [[1, 1], [1, 1]]"
DEPTHWISE = {
    "padded": Conv((2, 7, 6, 20), (3, 3, 1, 20), (2, 7, 6, 20), SAME, groups=20),
    "long lines": Conv((1, 3, 41, 5), (3, 3, 1, 5), (1, 3, 41, 5), SAME, groups=5),
    "long lines, two steps at a time": Conv(
        (1, 9, 90, 33), (3, 3, 1, 33), (1, 5, 45, 33), f"stride = [2, 2], {SAME}", groups=33
    ),
    "uneven padding": Conv(
        (2, 8, 8, 16), (3, 3, 1, 16), (2, 4, 4, 16), "stride = [2, 2], pad = [[0, 1], [0, 1]]", groups=16
    ),
    "dilated": Conv(
        (1, 8, 40, 3), (3, 3, 1, 3), (1, 8, 40, 3), "pad = [[2, 2], [3, 3]], rhs_dilate = [2, 3]", groups=3
    ),
    "windows outside": Conv((1, 2, 3, 4), (2, 2, 1, 4), (1, 9, 10, 4), "pad = [[4, 4], [4, 4]]", groups=4),
    "dilated windows outside": Conv(
        (1, 2, 3, 4), (2, 2, 1, 4), (1, 7, 8, 4), "pad = [[4, 4], [4, 4]], rhs_dilate = [3, 3]", groups=4
    ),
    "one result": Conv((1, 3, 3, 17), (3, 3, 1, 17), (1, 1, 1, 17), "", groups=17),
    "1-D": Conv((2, 50, 6), (4, 1, 6), (2, 50, 6), "pad = [[1, 2]]", "[b, 0, f]x[0, i, o]->[b, 0, f]", groups=6),
    "3-D": Conv(
        (1, 3, 4, 5, 7), (2, 3, 3, 1, 7), (1, 2, 4, 5, 7), "pad = [[0, 0], [1, 1], [1, 1]]",
        "[b, 0, 1, 2, f]x[0, 1, 2, i, o]->[b, 0, 1, 2, f]", groups=7,
    ),
    "outputs before inputs": Conv(
        (1, 5, 5, 6), (3, 3, 6, 1), (1, 5, 5, 6), SAME, "[b, 0, 1, f]x[0, 1, o, i]->[b, 0, 1, f]", groups=6
    ),
    "longest window written out": Conv((1, 1, 40, 3), (1, 16, 1, 3), (1, 1, 25, 3), "", groups=3),
    "longer window": Conv((1, 1, 40, 3), (1, 17, 1, 3), (1, 1, 24, 3), "", groups=3),
    "cropped": Conv((1, 9, 9, 3), (3, 3, 1, 3), (1, 6, 6, 3), "pad = [[-1, 0], [0, -1]]", groups=3),
    "transposed": Conv((1, 4, 4, 3), (3, 3, 1, 3), (1, 5, 5, 3), "lhs_dilate = [2, 2]", groups=3),
    "transposed, long lines": Conv(
        (2, 9, 45, 33), (3, 3, 1, 33), (2, 18, 90, 33), "pad = [[1, 2], [1, 2]], lhs_dilate = [2, 2]", groups=33
    ),
    "transposed by three and two": Conv(
        (1, 7, 41, 20), (5, 4, 1, 20), (1, 21, 82, 20), "pad = [[2, 4], [2, 2]], lhs_dilate = [3, 2]", groups=20
    ),
    "transposed, longer steps than windows": Conv(
        (1, 5, 30, 5), (2, 2, 1, 5), (1, 15, 90, 5), "pad = [[1, 2], [1, 2]], lhs_dilate = [3, 3]", groups=5
    ),
    "transposed, padded more than the window": Conv(
        (1, 4, 30, 6), (3, 3, 1, 6), (1, 15, 66, 6), "pad = [[6, 4], [5, 4]], lhs_dilate = [2, 2]", groups=6
    ),
    "transposed and cropped": Conv(
        (1, 6, 40, 18), (3, 3, 1, 18), (1, 7, 75, 18), "pad = [[-1, -1], [0, -2]], lhs_dilate = [2, 2]", groups=18
    ),
    "transposed 1-D": Conv(
        (2, 50, 6), (4, 1, 6), (2, 100, 6), "pad = [[2, 2]], lhs_dilate = [2]", "[b, 0, f]x[0, i, o]->[b, 0, f]",
        groups=6,
    ),
    "transposed 3-D, f64": Conv(
        (1, 3, 4, 20, 7), (2, 3, 3, 1, 7), (1, 6, 8, 40, 7), "pad = [[1, 1], [1, 2], [1, 2]], lhs_dilate = [2, 2, 2]",
        "[b, 0, 1, 2, f]x[0, 1, 2, i, o]->[b, 0, 1, 2, f]", groups=7, element="f64",
    ),
    "reversed": Conv((1, 5, 5, 3), (3, 2, 1, 3), (1, 3, 4, 3), "reverse = [true, true]", groups=3),
    "f64": Conv((1, 5, 20, 9), (3, 3, 1, 9), (1, 5, 20, 9), SAME, groups=9, element="f64"),
    "i32": Conv((1, 5, 5, 9), (3, 3, 1, 9), (1, 5, 5, 9), SAME, groups=9, element="i32"),
}  # fmt: skip


@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_convolution(name: str) -> None:
    conv = DEPTHWISE[name]
    compare(conv.text(), [conv.lhs, conv.rhs], conv.element)


@pytest.mark.parametrize("inputs", [1, 4])
def test_results_do_not_take_the_place_of_an_image_that_is_still_read(inputs: int) -> None:
    """Image and result are as large, and nothing else reads the image, which the program computed."""
    image, window = "tensor<2x9x10x20xf32>", f"tensor<3x3x{inputs}x20xf32>"
    text = f"""func.func @main(%x: {image}, %w: {window}) -> {image} {{
      %0 = stablehlo.convolution(%x, %w) dim_numbers = {NHWC}, window = {{{SAME}}}
        {{batch_group_count = 1 : i64, feature_group_count = {20 // inputs} : i64}} : ({image}, {window}) -> {image}
      %1 = stablehlo.convolution(%0, %w) dim_numbers = {NHWC}, window = {{{SAME}}}
        {{batch_group_count = 1 : i64, feature_group_count = {20 // inputs} : i64}} : ({image}, {window}) -> {image}
      %2 = stablehlo.tanh %1 : {image}
      return %2 : {image} }}"""
    compare(text, [(2, 9, 10, 20), (3, 3, inputs, 20)])


@pytest.mark.parametrize("threads", [1, 2])
def test_what_follows_a_depthwise_convolution_is_computed_with_it(threads: int) -> None:
    """Bias, residual and activation, the residual's buffer being the image's."""
    image, window, bias = "tensor<2x40x40x20xf32>", "tensor<3x3x1x20xf32>", "tensor<20xf32>"
    text = f"""func.func @main(%x: {image}, %w: {window}, %b: {bias}) -> {image} {{
      %twice = stablehlo.add %x, %x : {image}
      %0 = stablehlo.convolution(%twice, %w) dim_numbers = {NHWC}, window = {{{SAME}}}
        {{batch_group_count = 1 : i64, feature_group_count = 20 : i64}} : ({image}, {window}) -> {image}
      %1 = stablehlo.broadcast_in_dim %b, dims = [3] : ({bias}) -> {image}
      %2 = stablehlo.add %0, %1 : {image}
      %3 = stablehlo.add %2, %twice : {image}
      %4 = stablehlo.tanh %3 : {image}
      return %4 : {image} }}"""
    compare(text, [(2, 40, 40, 20), (3, 3, 1, 20), (20,)], threads=threads)


def test_convolution_on_two_threads() -> None:
    conv = Conv((4, 30, 30, 8), (3, 3, 8, 40), (4, 28, 28, 40), "")
    compare(conv.text(), [conv.lhs, conv.rhs], threads=2)
