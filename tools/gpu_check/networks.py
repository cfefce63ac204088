"""Training steps of whole networks: GPT-2 (small) and ResNet-50, beside PyTorch and JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import thalweg as tw
from thalweg.runtime.config import config
from thalweg.tools.gpu_check import peers
from thalweg.tools.gpu_check.check import Check, milliseconds, on_gpu
from thalweg.tools.gpu_check.models import step_of
from thalweg.tools.gpu_check.speed import resident


class Block(tw.nn.Module):
    """A layer of GPT-2: attention and a perceptron, normalised before, each with a way around it."""

    def __init__(self, width: int, heads: int, rng: np.random.Generator) -> None:
        self.norm1 = tw.nn.LayerNorm(width)
        self.attention = tw.nn.MultiHeadAttention(width, heads, rng, causal=True)
        self.norm2 = tw.nn.LayerNorm(width)
        self.wide = tw.nn.Dense(width, 4 * width, rng)
        self.narrow = tw.nn.Dense(4 * width, width, rng)

    def __call__(self, x: Any, *, training: bool = False) -> Any:
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(tw.nn.gelu(self.wide(self.norm2(x)), approximate=True))


class Gpt(tw.nn.Module):
    """int[batch, time] -> logits [batch, time, tokens]."""

    def __init__(self, tokens: int, time: int, width: int, layers: int, heads: int, rng: np.random.Generator) -> None:
        self.embed = tw.nn.Embedding(tokens, width, rng)
        self.place = tw.nn.Embedding(time, width, rng)
        self.blocks = [Block(width, heads, rng) for _ in range(layers)]
        self.norm = tw.nn.LayerNorm(width)

    def __call__(self, x: Any, *, training: bool = False) -> Any:
        x = self.embed(x) + self.place(tw.arange(x.shape[1], dtype=tw.int32))
        for block in self.blocks:
            x = block(x, training=training)
        table = next(iter(self.embed.trainable))  # the same table as that of the inputs
        return self.norm(x) @ tw.matrix_transpose(table)


class Bottleneck(tw.nn.Module):
    """A block of ResNet: 1 x 1, 3 x 3, 1 x 1, with a way around it."""

    def __init__(self, inputs: int, width: int, stride: int, rng: np.random.Generator) -> None:
        def conv(a: int, b: int, window: int, stride: int = 1) -> Any:
            return tw.nn.Conv(a, b, window, rng, stride=stride, padding="same", bias=False)

        self.layers = [conv(inputs, width, 1), conv(width, width, 3, stride), conv(width, 4 * width, 1)]
        self.norms = [tw.nn.BatchNorm(width), tw.nn.BatchNorm(width), tw.nn.BatchNorm(4 * width)]
        self.around = None if inputs == 4 * width and stride == 1 else conv(inputs, 4 * width, 1, stride)
        self.around_norm = None if self.around is None else tw.nn.BatchNorm(4 * width)

    def __call__(self, x: Any, *, training: bool = False) -> Any:
        y = x
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            y = norm(layer(y), training=training)
            y = tw.nn.relu(y) if number < 2 else y
        if self.around is not None and self.around_norm is not None:
            x = self.around_norm(self.around(x), training=training)
        return tw.nn.relu(x + y)


class Resnet(tw.nn.Module):
    """float[batch, height, width, 3] -> logits; `blocks` (3, 4, 6, 3) and `width` 64 is ResNet-50."""

    def __init__(self, blocks: tuple[int, ...], width: int, classes: int, rng: np.random.Generator) -> None:
        self.first = tw.nn.Conv(3, width, 7, rng, stride=2, padding="same", bias=False)
        self.norm = tw.nn.BatchNorm(width)
        self.blocks = []
        inputs = width
        for stage, count in enumerate(blocks):
            for number in range(count):
                stride = 2 if stage and not number else 1
                self.blocks.append(Bottleneck(inputs, width << stage, stride, rng))
                inputs = 4 * (width << stage)
        self.head = tw.nn.Dense(inputs, classes, rng)

    def __call__(self, x: Any, *, training: bool = False) -> Any:
        x = tw.nn.relu(self.norm(self.first(x), training=training))
        x = tw.nn.max_pool(x, 3, stride=2, padding="same")
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(tw.mean(x, axis=(1, 2)))


def gpt2(check: Check) -> None:
    """GPT-2 small (124 million weights), AdamW: batches of 8 texts of 1024 tokens, in 32-bit floats with tf32."""
    tokens, time, width, layers, heads = check.size((50_304, 1024, 768, 12, 12), (31, 8, 16, 1, 2))
    batch = check.size(2 if check.quick else 8, 2)
    rng = np.random.default_rng(0)
    text = rng.integers(0, tokens, (batch, time + 1)).astype(np.int32)
    with check.attempt(f"batch {batch} x {time}") as found, on_gpu(), config.override(matmul_precision="high"):
        model = Gpt(tokens, time, width, layers, heads, rng)
        step = step_of(model, tw.optim.AdamW(1e-4))
        x, y = resident(np.ascontiguousarray(text[:, :-1])), resident(np.ascontiguousarray(text[:, 1:]))
        _measure(check, found, step, x, y)
        if not check.simulated:
            found["tokens_s"] = batch * time / found["ms"] * 1e3
            sizes = tokens, time, width, layers, heads
            peers.times(found, found["ms"], _torch_gpt(text, *sizes), _jax_gpt(text, *sizes))


def resnet(check: Check) -> None:
    """ResNet-50, SGD with momentum: batches of 64 images of 224 x 224, in 32-bit floats with tf32."""
    blocks, width, classes, side = check.size(((3, 4, 6, 3), 64, 1000, 224), ((1, 1), 4, 5, 16))
    batch = check.size(16 if check.quick else 64, 2)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, side, side, 3)).astype(np.float32)
    labels = rng.integers(0, classes, batch).astype(np.int32)
    rounded = config.override(matmul_precision="high")
    with check.attempt(f"batch {batch} of {side} x {side}") as found, on_gpu(), rounded:
        step = step_of(Resnet(blocks, width, classes, rng), tw.optim.Momentum(0.01, 0.9))
        _measure(check, found, step, resident(images), resident(labels))
        if not check.simulated:
            found["images_s"] = batch / found["ms"] * 1e3
            peers.times(found, found["ms"], _torch_resnet(images, labels), _jax_resnet(images, labels))


def _measure(check: Check, found: dict[str, Any], step: Callable[..., Any], x: Any, y: Any) -> None:
    losses = [float(step(x, y)) for _ in range(check.size(5, 2))]
    found["losses"] = losses
    assert np.isfinite(losses).all() and losses[-1] < losses[0], f"the loss does not fall: {losses}"
    ms = milliseconds(check, lambda: step(x, y), rounds=3)
    if not check.simulated:
        found["memory_gib"], found["ms"] = check.gpu.in_use / 2**30, ms


def _torch_gpt(
    text: Any, tokens: int, time: int, width: int, layers: int, heads: int
) -> Iterator[tuple[str, peers.Step]]:
    torch = peers.torch_or_none()
    if torch is None:
        return
    torch.backends.cuda.matmul.allow_tf32 = True
    nn = torch.nn

    class TorchGpt(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.place = nn.Embedding(tokens, width), nn.Embedding(time, width)
            self.layers = nn.ModuleList([
                nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
                for _ in range(layers)
            ])  # fmt: skip
            self.norm = nn.LayerNorm(width)

        def forward(self, x: Any) -> Any:
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
            y = self.embed(x) + self.place.weight
            for layer in self.layers:
                y = layer(y, src_mask=mask, is_causal=True)
            return self.norm(y) @ self.embed.weight.T

    data = torch.from_numpy(text.astype(np.int64)).cuda()
    x, y = data[:, :-1].contiguous(), data[:, 1:].contiguous()
    for name, wrap in (("torch", lambda m: m), ("torch.compile", torch.compile)):
        model = TorchGpt().cuda()
        yield name, _torch_step(torch, wrap(model), torch.optim.AdamW(model.parameters(), 1e-4, fused=True), x, y)


def _jax_gpt(
    text: Any, tokens: int, time: int, width: int, layers: int, heads: int
) -> Iterator[tuple[str, peers.Step]]:
    """The same network in plain JAX, its optimiser written out."""
    jax = peers.jax_or_none()
    if jax is None:
        return
    xp, nn = jax.numpy, jax.nn
    square, wide = (width, width), (width, 4 * width)
    shapes = [(tokens, width), (time, width), *[square] * (4 * layers), *[wide] * layers, *[wide[::-1]] * layers]
    weights = [w * 0.02 for w in peers.jax_arrays(jax, shapes, "float32")]
    x, y = xp.asarray(text[:, :-1]), xp.asarray(text[:, 1:])

    def mixed(h: Any, q: Any, k: Any, v: Any, o: Any) -> Any:
        parts = [(h @ w).reshape(*h.shape[:2], heads, width // heads) for w in (q, k, v)]
        return jax.nn.dot_product_attention(*parts, is_causal=True).reshape(h.shape) @ o

    def loss(weights: list[Any]) -> Any:
        embed, place, *rest = weights
        h = embed[x] + place
        for k in range(layers):
            h = h + mixed(nn.standardize(h), *rest[4 * k : 4 * k + 4])
            up, down = rest[4 * layers + k], rest[5 * layers + k]
            h = h + nn.gelu(nn.standardize(h) @ up) @ down
        logits = nn.log_softmax(nn.standardize(h) @ embed.T)
        return -xp.mean(xp.take_along_axis(logits, y[..., None], 2))

    def update(w: Any, g: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return w - 1e-4 * (m / (xp.sqrt(v) + 1e-8) + 0.01 * w), m, v

    def step(state: list[tuple[Any, Any, Any]]) -> tuple[Any, list[tuple[Any, Any, Any]]]:
        value, gradients = jax.value_and_grad(loss)([w for w, _, _ in state])
        return value, [update(w, g, m, v) for (w, m, v), g in zip(state, gradients, strict=True)]

    compiled = jax.jit(step, donate_argnums=0)
    kept = [[(w, xp.zeros_like(w), xp.zeros_like(w)) for w in weights]]

    def run() -> Any:
        value, kept[0] = compiled(kept[0])
        return value

    yield "jax", run


def _torch_step(torch: Any, model: Any, optimizer: Any, x: Any, y: Any) -> peers.Step:
    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        logits = model(x)
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
        loss.backward()
        optimizer.step()
        return loss

    return step


def _torch_resnet(images: Any, labels: Any) -> Iterator[tuple[str, peers.Step]]:
    torch = peers.torch_or_none()
    if torch is None:
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    last = torch.channels_last
    x = torch.from_numpy(images).cuda().permute(0, 3, 1, 2).contiguous(memory_format=last)
    y = torch.from_numpy(labels.astype(np.int64)).cuda()
    for name, wrap in (("torch", lambda m: m), ("torch.compile", torch.compile)):
        model = _resnet50_of_torch(torch.nn).cuda().to(memory_format=last)
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
        yield name, _torch_step(torch, wrap(model), optimizer, x, y)


def _resnet50_of_torch(nn: Any) -> Any:
    """The same network as `Resnet`, of PyTorch's layers."""

    class TorchBottleneck(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            sizes = ((inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1))
            layers = [layer for a, b, window, step in sizes for layer in (*_normed(nn, a, b, window, step), nn.ReLU())]
            self.layers = nn.Sequential(*layers[:-1])
            same = inputs == 4 * width and stride == 1
            self.around = nn.Identity() if same else nn.Sequential(*_normed(nn, inputs, 4 * width, 1, stride))

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.layers(x) + self.around(x))

    blocks, inputs = [], 64
    for stage, count in enumerate((3, 4, 6, 3)):
        for number in range(count):
            blocks.append(TorchBottleneck(inputs, 64 << stage, 2 if stage and not number else 1))
            inputs = 256 << stage
    start = *_normed(nn, 3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    return nn.Sequential(*start, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


def _normed(nn: Any, inputs: int, outputs: int, window: int, stride: int) -> tuple[Any, Any]:
    return nn.Conv2d(inputs, outputs, window, stride, window // 2, bias=False), nn.BatchNorm2d(outputs)


def _jax_resnet(images: Any, labels: Any) -> Iterator[tuple[str, peers.Step]]:
    """The same network in plain JAX, without the moving statistics; its optimiser written out."""
    jax = peers.jax_or_none()
    if jax is not None:
        yield "jax", resnet50_of_jax(jax, images, labels)


def resnet50_of_jax(jax: Any, images: Any, labels: Any) -> peers.Step:
    """A step of `Resnet` (ResNet-50) with momentum, which gives the loss."""
    xp, lax = jax.numpy, jax.lax
    rng = np.random.default_rng(0)
    x, y = xp.asarray(images), xp.asarray(labels)

    def normed(inputs: int, outputs: int, window: int) -> list[Any]:
        kernel = rng.normal(size=(window, window, inputs, outputs)) * np.sqrt(2 / (window * window * inputs))
        return [xp.asarray(a, "float32") for a in (kernel, np.ones(outputs), np.zeros(outputs))]

    def apply(h: Any, layer: list[Any], stride: int = 1) -> Any:
        kernel, scale, offset = layer
        h = lax.conv_general_dilated(h, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        mean, variance = h.mean((0, 1, 2)), h.var((0, 1, 2))
        return (h - mean) * lax.rsqrt(variance + 1e-5) * scale + offset

    blocks, strides, inputs = [], [], 64
    for stage, count in enumerate((3, 4, 6, 3)):
        for number in range(count):
            width, stride = 64 << stage, 2 if stage and not number else 1
            layers = [normed(inputs, width, 1), normed(width, width, 3), normed(width, 4 * width, 1)]
            blocks.append([*layers, *([] if number else [normed(inputs, 4 * width, 1)])])
            strides.append(stride)
            inputs = 4 * width
    weights = [normed(3, 64, 7), blocks, xp.asarray(rng.normal(size=(inputs, 1000)) * 0.01, "float32"), xp.zeros(1000)]

    def loss(weights: Any) -> Any:
        first, blocks, head, bias = weights
        h = jax.nn.relu(apply(x, first, 2))
        h = lax.reduce_window(h, -xp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        for (one, three, last, *around), stride in zip(blocks, strides, strict=True):
            inner = apply(jax.nn.relu(apply(jax.nn.relu(apply(h, one)), three, stride)), last)
            h = jax.nn.relu(inner + (apply(h, around[0], stride) if around else h))
        logits = jax.nn.log_softmax(h.mean((1, 2)) @ head + bias)
        return -xp.mean(xp.take_along_axis(logits, y[:, None], 1))

    def step(weights: Any, momenta: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights)
        momenta = jax.tree.map(lambda m, g: 0.9 * m + g, momenta, gradients)
        return value, jax.tree.map(lambda w, m: w - 0.01 * m, weights, momenta), momenta

    compiled = jax.jit(step, donate_argnums=(0, 1))
    kept = [weights, jax.tree.map(xp.zeros_like, weights)]

    def run() -> Any:
        value, *kept[:] = compiled(*kept)
        return value

    return run
