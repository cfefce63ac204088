"""What to write here instead of a name that another library has."""

from __future__ import annotations

from importlib import import_module

# Functions, and methods of tensors, that are called otherwise here or are reached another way.
_OTHERWISE = {
    "GradientTape": "tw.value_and_grad(f)",
    "array": "tw.asarray(values)",
    "backward": "tw.grad(f), which gives a function",
    "cat": "tw.concat(tensors)",
    "clamp": "tw.clip(x, low, high)",
    "clip_by_value": "tw.clip(x, low, high)",
    "clone": "nothing: tensors never change, and need no copies",
    "compile": "tw.function(f)",
    "constant": "tw.asarray(values)",
    "convert_to_tensor": "tw.asarray(values)",
    "copy": "nothing: tensors never change, and need no copies",
    "cpu": "x.to_device(\"cpu\")",
    "cuda": "x.to_device(\"gpu:0\")",
    "cumprod": "tw.cumulative_prod(x, axis=0)",
    "cumsum": "tw.cumulative_sum(x, axis=0)",
    "detach": "tw.stop_gradient(x)",
    "dot": "tw.matmul(x, y), or x @ y",
    "double": "x.astype(tw.float64)",
    "float": "x.astype(tw.float32)",
    "fori_loop": "tw.while_loop, or tw.scan",
    "gather": "tw.take(x, indices, axis=0)",
    "gradients": "tw.grad(f)",
    "half": "x.astype(tw.float16)",
    "jit": "tw.function(f)",
    "masked_fill": "tw.where(mask, value, x)",
    "norm": "tw.vector_norm(x)",
    "numel": "x.size",
    "permute": "tw.permute_dims(x, axes)",
    "range": "tw.arange(n)",
    "ravel": "tw.reshape(x, (-1,))",
    "tensor": "tw.asarray(values)",
    "to": "x.astype(dtype), or x.to_device(device)",
    "unsqueeze": "tw.expand_dims(x, axis=0)",
    "view": "x.reshape(shape)",
}
_MODULES = ("nn", "random", "optim", "train", "data")  # where else a public name may be


class MissingAttributeError(AttributeError):
    """A tensor has no such attribute; what to write instead is only looked for when somebody reads the message."""

    def __str__(self) -> str:
        hint = instead(self.name or "", of_tensor=True)
        return f"'{type(self.obj).__name__}' object has no attribute '{self.name}'{hint}"


def instead(name: str, of_tensor: bool) -> str:
    """A sentence that says what to write for a name that is not there, or the empty string.

    Args:
        of_tensor: it was looked for as an attribute of a tensor.

    Example:
        >>> instead("sum", of_tensor=True)
        ': write tw.sum(x, …)'
        >>> instead("reduce_mean", of_tensor=False)
        ': write tw.mean'
    """
    if name.startswith("_"):
        return ""
    if name in _OTHERWISE:
        return f": write {_OTHERWISE[name]}"
    arguments = "(x, …)" if of_tensor else ""
    public = import_module("thalweg.public").__all__
    short = name.removeprefix("reduce_")
    if short in public and (of_tensor or short != name):
        return f": write tw.{short}{arguments}"
    for module in _MODULES:
        if callable(getattr(import_module(f"thalweg.frontend.{module}"), name, None)):
            return f": write tw.{module}.{name}{arguments}"
    return ""
