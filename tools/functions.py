"""Functions in Python files: found by name, given example inputs, traced."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from thalweg.dialects.attributes import array_type
from thalweg.dialects.diagnostics import ThalwegError, did_you_mean
from thalweg.dialects.types import TensorType
from thalweg.frontend.function import Function, function
from thalweg.frontend.spec import TensorSpec, spec
from thalweg.tools.graphs import is_of_a_graph, step_of
from thalweg.tools.loading import Array, LoadError, Subject


def trace(
    path: Path, name: str, types: Sequence[TensorType] | None = None, examples: Sequence[Array] | None = None
) -> Subject:
    """The program of `path:name`: a `tw.function` or a plain function (`Class.method` works, too), or the step that
    computes a tensor, an operation or all of a graph.

    What it is traced with, the first of: `types`; its attribute `example_inputs` (a tuple, or a function that makes
    one); the signature it was made with; `examples`; nothing, if it takes no arguments.

    Raises:
        LoadError: no such file or function, an exception in the user's code, no example inputs.
    """
    found = _attribute(load_file(path), name, path)
    if is_of_a_graph(found):
        with user_code(path):
            return step_of(found, name, f"{path}:{name}", types)
    traced = _function(found, name, path)
    arguments = _arguments(traced, f"{path}:{name}", types, examples, False)
    _check_call(traced, arguments, f"{path}:{name}")
    with user_code(path):
        program = traced.program(*arguments)
        data = traced.inputs(*arguments)
    given = tuple(data.values())
    return Subject(
        name=name,
        dialect="tw",
        module=program.module,
        inputs=(*program.inputs, *map(array_type, program.constants)),
        names=tuple(data),
        examples=None if any(isinstance(x, TensorSpec) for x in given) else tuple(np.asarray(x) for x in given),
        constants=program.constants,
        variables={v.name: v.buffer for v in program.variables},
    )


def resolve(
    path: Path,
    name: str,
    types: Sequence[TensorType] | None = None,
    examples: Sequence[Array] | None = None,
    open_extents: bool = False,
    module: ModuleType | None = None,
) -> tuple[Function, tuple[Any, ...]]:
    """The function `path:name`, and what `trace` traces it with.

    Args:
        open_extents: whether a signature that leaves extents open will do.
        module: what `load_file` made of the file, if it was run before: functions of one run share their variables.

    Raises:
        LoadError: as for `trace`.
    """
    traced = _function(_attribute(module or load_file(path), name, path), name, path)
    arguments = _arguments(traced, f"{path}:{name}", types, examples, open_extents)
    _check_call(traced, arguments, f"{path}:{name}")
    return traced, arguments


def load_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own name; its folder is importable, as for `python file.py`.

    Raises:
        LoadError: it cannot be read, or raises.
    """
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.py")]) if path.parent.is_dir() else ""
        raise LoadError(f"{path}: no such file{near or '.'}")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[path.stem] = module
    with user_code(path):
        module_spec.loader.exec_module(module)
    return module


@contextmanager
def user_code(path: Path) -> Iterator[None]:
    """Tell an exception of the user's own with the line it came from; ours name their line themselves."""
    try:
        yield
    except ThalwegError:
        raise
    except SyntaxError as error:
        raise LoadError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        ours = str(path.resolve())
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == Path(ours)]
        place = f"{path}:{frames[-1].lineno}: in {frames[-1].name}: " if frames else f"{path}: "
        raise LoadError(f"{place}{type(error).__name__}: {error}") from error


def _attribute(module: ModuleType, name: str, path: Path) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            own = {n: v for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__}
            known = [n for n, v in own.items() if callable(v)]
            listed = f" It has {', '.join(known)}." if known else ""
            raise LoadError(f"{path}: no function '{name}'{did_you_mean(name, known) or '.'}{listed}")
        found = getattr(found, part)
    return found


def _function(found: Any, name: str, path: Path) -> Function:
    if not callable(found):
        raise LoadError(f"{path}: '{name}' is a {type(found).__name__}, not a function.")
    return found if isinstance(found, Function) else function(found)


def _arguments(
    traced: Function, label: str, types: Sequence[TensorType] | None, examples: Sequence[Array] | None,
    open_extents: bool,
) -> tuple[Any, ...]:  # fmt: skip
    if types is not None:
        return tuple(spec(t.shape, t.dtype) for t in types)
    own = getattr(traced, "example_inputs", getattr(traced.fn, "example_inputs", None))
    if own is not None:
        with user_code(Path(label.rpartition(":")[0])):
            made = own() if callable(own) else own
        return tuple(made) if isinstance(made, tuple | list) else (made,)
    specs = getattr(traced, "signature", None)
    if isinstance(specs, Sequence) and all(
        isinstance(s, TensorSpec) and (open_extents or None not in s.shape) for s in specs
    ):
        return tuple(specs)
    if examples is not None:
        return tuple(examples)
    parameters = inspect.signature(traced.fn).parameters.items()
    needed = [n for n, p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not needed:
        return ()
    raise LoadError(
        f"{label} takes {', '.join(needed)}, and nothing says of which types. Give --shapes "
        f"{','.join('f32[2,3]' for _ in needed)}, or write {label.rpartition(':')[2]}.example_inputs = (…) in the file."
    )


def _check_call(traced: Function, arguments: Sequence[Any], label: str) -> None:
    """Say it with the command line's words if the function cannot be called so."""
    signature = inspect.signature(traced.fn)
    try:
        signature.bind(*arguments)
    except TypeError as error:
        hint = " Types and example inputs are for positional arguments." if arguments else ""
        raise LoadError(f"{label}{signature} cannot be called with {len(arguments)} inputs: {error}.{hint}") from None
