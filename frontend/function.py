"""`tw.function`: a Python function that is traced once per kind of arguments, compiled, and run from then on."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, overload

from thalweg.dialects.location import Where, user_frame
from thalweg.dialects.ops import control
from thalweg.frontend.custom import call_in_region
from thalweg.frontend.device import _scope
from thalweg.frontend.eager import Compiled, Plan
from thalweg.frontend.explain import Explanation, explain
from thalweg.frontend.guards import Guard, guards_of
from thalweg.frontend.program import Array, Program, compiler
from thalweg.frontend.signature import Data, Key, Signature, placeholders
from thalweg.frontend.tensor import EagerTensor
from thalweg.frontend.trace import Trace, _thread
from thalweg.frontend.warm import WarmStart

# Traces of one function after which a warning says that something is amiss.
MANY_TRACES = 32


class Specialisation:
    """A function traced for one key: the program, the plan for its results, and what it relied on."""

    def __init__(self, number: int, key: Key, program: Program, plan: Plan, guards: tuple[Guard, ...], where: Where):
        self.number = number
        self.key = key
        self.program = program
        self.plan = plan
        self.guards = guards
        self.where = where  # the call that traced it
        self.scope = _scope.text  # the `tw.device` blocks around that call: what they ask for is in the program
        self.compiled: Compiled | None = None
        self.quick: Callable[..., Any] | None = None  # tensors or arrays to a tensor, or NotImplemented, natively

    def holds(self) -> bool:
        """True if nothing has changed that it was traced with."""
        if self.scope != _scope.text:
            return False
        for guard in self.guards:  # noqa: SIM110  (on the way of every call: a plain loop is quicker)
            if not guard.holds():
                return False
        return True

    def run(self, arrays: Sequence[Array]) -> Any:
        """Run on the call's data."""
        compiled = self.compiled
        if compiled is None:
            executable = compiler().compile(self.program)
            compiled = self.compiled = Compiled(executable, self.plan, len(self.program.outputs))
            self.quick = compiled.quick
        return compiled.run(arrays)

    def run_if_exact(self, values: Sequence[Any]) -> Any:
        """Run if the values are tensors or arrays of just the program's types and nothing around has changed;
        NotImplemented otherwise. What most calls are: no key is built, the native entry compares."""
        compiled = self.compiled
        if compiled is None or self.scope != _scope.text or (self.guards and not self.holds()):
            return NotImplemented
        return compiled.try_directly([v.data if type(v) is EagerTensor else v for v in values])


class Function:
    """A traced and compiled function; `tw.function` makes it. Safe to call from several threads."""

    def __init__(
        self,
        function: Callable[..., Any],
        static: Sequence[str] = (),
        signature: Sequence[Any] | None = None,
        name: str | None = None,
        shards: int = 1,
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self.fn = function
        self.shards = shards
        self._options = (tuple(static), signature, name)
        self._signature = Signature(function, static, signature)
        self.name = name or self._signature.name
        self._where = _definition(function)
        self._cache: dict[Key, list[Specialisation]] = {}
        self._short: dict[tuple[Any, ...], Specialisation] = {}
        self._latest: Specialisation | None = None  # of the calls with nothing but tensors
        self._latest_arity = -1
        self._count = 0
        self._lock = threading.RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _thread.trace is not None:
            return self._inline(args, kwargs)
        latest = self._latest
        if latest is not None and not kwargs:
            quick = latest.quick
            if quick is not None and latest.scope == _scope.text and (not latest.guards or latest.holds()):
                result = quick(*args)
            else:
                result = latest.run_if_exact(args) if len(args) == self._latest_arity else NotImplemented
            if result is not NotImplemented:
                return result
        arrays: list[Array] = []
        key = self._signature.short_key(args, kwargs, arrays)
        if key is None:
            found, arrays = self._specialisation(args, kwargs)
            return found.run(arrays)
        known = self._short.get(key)
        if known is None or not known.holds():
            known = self._short[key] = self._specialisation(args, kwargs)[0]
        if not kwargs and len(arrays) == len(args):
            self._latest, self._latest_arity = known, len(args)
        return known.run(arrays)

    def _inline(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Called while another function is traced: the body becomes a `tw.call` in its program."""
        self._signature.bind(args, kwargs)
        trace = _thread.trace
        assert trace is not None
        return call_in_region(
            trace, control.call, {"name": self.name}, lambda: self.fn(*args, **kwargs), f"{self.name}()", inline=True
        )

    def _specialisation(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Specialisation, list[Any]]:
        """The cached program for a call, traced now if there is none, and the call's data."""
        key, data = self._signature.analyse(self._signature.bind(args, kwargs))
        found = self._find(key)
        if found is None:
            with self._lock:
                found = self._find(key) or self._trace(key)
        return found, data

    def _find(self, key: Key) -> Specialisation | None:
        return next((s for s in self._cache.get(key, ()) if s.holds()), None)

    def _trace(self, key: Key) -> Specialisation:
        where = user_frame()
        warm = WarmStart.of(self.fn, key)
        stored = warm.load() if warm else None
        if stored is not None:
            return self._keep(key, *stored, where)
        trace = Trace(self.name, label=f"{self.name}()", where=self._where)
        with trace.recording():
            values = placeholders(trace, key)
            plan = Plan(self._apply(values))
            program = trace.finish(plan.outputs)
        self._count += 1
        if self._count == MANY_TRACES:
            warnings.warn(
                f"{where} {self.name}() has been traced {MANY_TRACES} times, which is slow. Its .explain(…) tells "
                "what differs between calls. Pad shapes to a few sizes, pass numbers that change as arguments.",
                RuntimeWarning,
                stacklevel=2,
            )
        plan.release()
        if warm is not None:
            warm.store(program, plan)
        return self._keep(key, program, plan, where)

    def _keep(self, key: Key, program: Program, plan: Plan, where: Where) -> Specialisation:
        """Remember a program for this kind of arguments."""
        program = dataclasses.replace(program, shards=self.shards) if self.shards > 1 else program
        known = sum(map(len, self._cache.values()))
        made = Specialisation(known + 1, key, program, plan, guards_of(self.fn), where)
        self._cache.setdefault(key, []).insert(0, made)
        return made

    def _apply(self, values: dict[str, Any]) -> Any:
        """Call the Python function with values by parameter."""
        bound = inspect.BoundArguments(self._signature.signature, values)
        return self.fn(*bound.args, **bound.kwargs)

    def _with_specs(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Sequence[Any]:
        if not args and not kwargs and self._signature.specs:
            return self._signature.specs
        return args

    @property
    def signature(self) -> Sequence[Any] | None:
        """The specs that it was made with."""
        return self._signature.specs

    def program(self, *args: Any, **kwargs: Any) -> Program:
        """The traced program for example arguments; specs may stand for arrays, and none are needed if the signature
        leaves no extent open."""
        return self._specialisation(self._with_specs(args, kwargs), kwargs)[0].program

    def inputs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The data among example arguments by its path (`batch['x']`), in the order in which the program takes it:
        arrays, or specs where specs were given."""
        args = tuple(self._with_specs(args, kwargs))
        key, data = self._signature.analyse(self._signature.bind(args, kwargs))
        paths = [p for a in key for p, leaf in zip(a.paths(), a.leaves, strict=True) if isinstance(leaf, Data)]
        return dict(zip(paths, data, strict=True))

    def results(self, *args: Any, **kwargs: Any) -> list[str]:
        """The paths of the computed results in what the function returns (`['sum']`, `[0].loss`), in the order in
        which the program gives them; an empty path for a single one."""
        plan = self._specialisation(self._with_specs(args, kwargs), kwargs)[0].plan
        paths = dict(zip(plan.results or [], plan.structure.paths(), strict=False))
        return [paths[k] for k in sorted(paths)]

    def ir(self, stage: str, *args: Any, **kwargs: Any) -> str:
        """The program's text at a stage: "tw", "tw-optimized", "stablehlo", "linalg", "kernels", "llvm", "asm"; for a
        GPU, which need not be there, "triton" and "ptx".

        Args:
            args, kwargs: example arguments, or `tw.spec`s in their place.

        Raises:
            ValueError: no such stage.
        """
        return compiler().stage(self.program(*args, **kwargs), stage)

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """Which cached program these arguments would run, or what would make the function trace again. Traces
        nothing."""
        args = tuple(self._with_specs(args, kwargs))
        key, _ = self._signature.analyse(self._signature.bind(args, kwargs))
        cached = [s for group in self._cache.values() for s in group]
        return explain(self.name, self._where, key, cached)

    @property
    def trace_count(self) -> int:
        """How often the function has been traced."""
        return self._count

    def __get__(self, instance: Any, owner: type | None = None) -> Function:
        """A method: each instance has its own cache, kept as long as the instance."""
        if instance is None:
            return self
        return _methods.get(self, instance)

    def __repr__(self) -> str:
        return f"<tw.function {self.name} at {str(self._where).removesuffix(':')}>"


class _Methods:
    """Functions bound to instances: dropped when the instance goes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_instance: dict[tuple[int, int], Function] = {}

    def get(self, function: Function, instance: Any) -> Function:
        key = (id(function), id(instance))
        with self.lock:
            found = self.by_instance.get(key)
            if found is None:
                found = self._make(function, instance, key)
        return found

    def _make(self, function: Function, instance: Any, key: tuple[int, int]) -> Function:
        static, signature, name = function._options
        try:
            reference = weakref.ref(instance, lambda _: self.by_instance.pop(key, None))
        except TypeError:
            raise TypeError(
                f"{user_frame()} {type(instance).__name__}.{function.name} is a tw.function, but instances cannot be "
                "referred to weakly: add '__weakref__' to the class's __slots__ (dataclass: weakref_slot=True)."
            ) from None

        def method(*args: Any, **kwargs: Any) -> Any:
            return function.fn(reference(), *args, **kwargs)

        whole = inspect.signature(function.fn)
        parameters = list(whole.parameters.values())[1:]
        functools.update_wrapper(method, function.fn)
        method.__signature__ = whole.replace(parameters=parameters)  # type: ignore[attr-defined]
        owner = type(instance).__name__
        made = Function(method, static, signature, name or f"{owner}.{function.name}", function.shards)
        self.by_instance[key] = made
        return made


_methods = _Methods()


def _definition(function: Callable[..., Any]) -> Where:
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    return Where(code.co_filename, code.co_firstlineno, code.co_name) if code else user_frame()


@overload
def function(fn: Callable[..., Any], /) -> Function: ...
@overload
def function(
    fn: Callable[..., Any],
    /,
    *,
    static: Sequence[str] = (),
    signature: Sequence[Any] | None = None,
    name: str | None = None,
    shards: int = 1,
) -> Function: ...
@overload
def function(
    *, static: Sequence[str] = (), signature: Sequence[Any] | None = None, name: str | None = None, shards: int = 1
) -> Callable[[Callable[..., Any]], Function]: ...
def function(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    static: Sequence[str] = (),
    signature: Sequence[Any] | None = None,
    name: str | None = None,
    shards: int = 1,
) -> Function | Callable[[Callable[..., Any]], Function]:
    """Trace a function into a program, compile it, and run the program from then on.

    The function is called with tensors that stand for data; what it does to them becomes the program. It is traced
    again for other structures, shapes, dtypes or static values of its arguments, and when a closure variable, or a
    global that holds a plain value, a tensor or a variable, is bound to another one; `Function.explain` tells which.
    Arrays that it takes from around itself are constants of the program, as they were when it was traced. Side effects
    of Python (printing, appending to a list) happen while tracing only; state belongs in `tw.Variable`s, whose reads
    and assignments are part of the program. An exception in it leaves the function usable.

    Args:
        fn: takes and returns nested dicts, lists, tuples, dataclasses of arrays. Python numbers among the arguments are
            data, unless the parameter has a Python scalar or None as its default: then they are static, as are strings,
            dtypes and functions.
        static: parameters whose values are options: known while tracing, hashable, part of the cache's key.
        signature: a `tw.spec` per positional argument. A contract that each call is checked against; None extents take
            any size. Programs have static shapes: each size that occurs is compiled once.
        name: what the program is called; by default the function's name.
        shards: among how many GPUs of this process each call's batch is shared out: arguments whose first extent is
            that of the first argument that can be divided evenly. Variables are on all of them, and what sums over the
            batch, as gradients do, is summed over the GPUs; the numbers are those of one GPU up to the order of
            additions. Called inside another function, it is part of that one.

    Raises:
        UnavailableError: fewer GPUs than `shards`.
        TracingError: the function does something that cannot be traced; the message names the user's line.

    Example:
        >>> @tw.function
        ... def f(a, b, *, scale=2.0):
        ...     return (a @ b) * scale
        >>> f(x, y); f.ir("tw", x, y); f.explain(x, y)
    """
    if fn is None:
        return lambda wrapped: function(wrapped, static=static, signature=signature, name=name, shards=shards)
    if not callable(fn):
        raise TypeError(f"{user_frame()} tw.function takes a function, got {type(fn).__name__}")
    if inspect.isgeneratorfunction(fn) or inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        kind = "a generator" if inspect.isgeneratorfunction(fn) else "asynchronous"
        raise TypeError(
            f"{user_frame()} tw.function: {fn.__name__}() is {kind}: calling it does not run its body, so nothing can "
            "be traced. Return the values, a list of them say."
        )
    if shards < 1:
        raise ValueError(f"{user_frame()} tw.function: shards must be 1 or more, got {shards}.")
    return Function(fn.fn if isinstance(fn, Function) else fn, static, signature, name, shards)
