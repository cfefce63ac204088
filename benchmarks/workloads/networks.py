"""Convolutional networks, written once against `Layers`, which each framework implements (layers.py).

AlexNet, Overfeat, VGG-A and GoogleNet as in Table 1 of "TensorFlow: a system for large-scale machine learning" (the
layer lists of convnet-benchmarks); MobileNet v1 and ResNet-50 with their normalisation folded into weights and biases,
as for inference. All paddings are symmetric, so that every framework computes the same without a separate pad.
"""

from __future__ import annotations

from typing import Any, Protocol


class Layers(Protocol):
    """One framework's layers on images. Parameters are taken in the order of the calls."""

    def conv(self, x: Any, outputs: int, window: int, stride: int = 1, pad: int = 0, groups: int = 1) -> Any:
        """Convolution and bias; `groups` 0: depthwise."""

    def relu(self, x: Any) -> Any: ...
    def relu6(self, x: Any) -> Any: ...
    def add(self, x: Any, y: Any) -> Any: ...
    def max_pool(self, x: Any, window: int, stride: int, pad: int = 0) -> Any: ...
    def concat(self, xs: list[Any]) -> Any:
        """Along the channels."""

    def mean(self, x: Any) -> Any:
        """Over the image: [batch, channels]."""

    def flatten(self, x: Any) -> Any: ...
    def affine(self, x: Any, outputs: int) -> Any: ...


def _conv(f: Layers, x: Any, outputs: int, window: int, stride: int = 1, pad: int = 0) -> Any:
    return f.relu(f.conv(x, outputs, window, stride, pad))


def _head(f: Layers, x: Any, *widths: int) -> Any:
    x = f.flatten(x)
    for width in widths:
        x = f.relu(f.affine(x, width))
    return f.affine(x, 1000)


def alexnet(f: Layers, x: Any) -> Any:
    """227 x 227 x 3 to 1000, the variant of "one weird trick"."""
    x = f.max_pool(_conv(f, x, 64, 11, 4), 3, 2)
    x = f.max_pool(_conv(f, x, 192, 5, 1, 2), 3, 2)
    for outputs in (384, 256, 256):
        x = _conv(f, x, outputs, 3, 1, 1)
    return _head(f, f.max_pool(x, 3, 2), 4096, 4096)


def overfeat(f: Layers, x: Any) -> Any:
    """231 x 231 x 3 to 1000, the fast variant."""
    x = f.max_pool(_conv(f, x, 96, 11, 4), 2, 2)
    x = f.max_pool(_conv(f, x, 256, 5), 2, 2)
    for outputs in (512, 1024, 1024):
        x = _conv(f, x, outputs, 3, 1, 1)
    return _head(f, f.max_pool(x, 2, 2), 3072, 4096)


def vgg_a(f: Layers, x: Any) -> Any:
    """224 x 224 x 3 to 1000."""
    for block in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for outputs in block:
            x = _conv(f, x, outputs, 3, 1, 1)
        x = f.max_pool(x, 2, 2)
    return _head(f, x, 4096, 4096)


# 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; the projection after the pool. None: a pool between the blocks.
_INCEPTIONS = (
    (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None,
    (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), None,
    (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
)  # fmt: skip


def googlenet(f: Layers, x: Any) -> Any:
    """224 x 224 x 3 to 1000: Inception v1."""
    x = f.max_pool(_conv(f, x, 64, 7, 2, 3), 3, 2, 1)
    x = f.max_pool(_conv(f, _conv(f, x, 64, 1), 192, 3, 1, 1), 3, 2, 1)
    for widths in _INCEPTIONS:
        if widths is None:
            x = f.max_pool(x, 3, 2, 1)
            continue
        one, three_reduced, three, five_reduced, five, projected = widths
        x = f.concat([
            _conv(f, x, one, 1),
            _conv(f, _conv(f, x, three_reduced, 1), three, 3, 1, 1),
            _conv(f, _conv(f, x, five_reduced, 1), five, 5, 1, 2),
            _conv(f, f.max_pool(x, 3, 1, 1), projected, 1),
        ])  # fmt: skip
    return f.affine(f.mean(x), 1000)


def mobilenet(f: Layers, x: Any) -> Any:
    """224 x 224 x 3 to 1000: MobileNet v1, width 1."""
    x = f.relu6(f.conv(x, 32, 3, 2, 1))
    layers = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    for outputs, stride in layers:
        x = f.relu6(f.conv(x, 0, 3, stride, 1, groups=0))
        x = f.relu6(f.conv(x, outputs, 1))
    return f.affine(f.mean(x), 1000)


def resnet50(f: Layers, x: Any) -> Any:
    """224 x 224 x 3 to 1000."""
    x = f.max_pool(_conv(f, x, 64, 7, 2, 3), 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = _conv(f, _conv(f, x, width, 1), width, 3, stride, 1)
            y = f.conv(y, 4 * width, 1)
            x = f.relu(f.add(y, x if block else f.conv(x, 4 * width, 1, stride)))
    return f.affine(f.mean(x), 1000)
