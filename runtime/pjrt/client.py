"""PJRT through the `jax` package: programs in, arrays to devices and back.

    client = client_for(virtual=True)                    # PJRT's CPU devices in the place of TPUs
    program = client.compile(artefact, [0])
    (y,) = program([client.put(x, [0])])                 # arrays of the device; np.asarray(y) brings one back

Arguments that the program marks (`tf.aliasing_output`) are donated: their memory becomes that of the result, and the
array that was given is gone. A program for several devices takes arrays that are split over them (`put` with `split`)
or that each of them has.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

import numpy as np

from thalweg.dialects.diagnostics import ExecutionError, UnavailableError

Array: TypeAlias = np.ndarray[Any, Any]
DeviceArray: TypeAlias = Any  # a jax.Array


@functools.cache
def client_for(virtual: bool) -> Client:
    """This process's client: of its TPUs, or of PJRT's CPU devices where TPUs are only tried out.

    Raises:
        UnavailableError: the `jax` package is not installed, or it finds no TPU.
    """
    try:
        import jax
    except ImportError:
        raise UnavailableError("TPUs need the package jax: pip install 'thalweg[tpu]'.") from None
    if virtual and jax.config.jax_platforms is None:
        jax.config.update("jax_platforms", "cpu")  # it would look for real ones first, and wait for them
    return Client(jax, "cpu" if virtual else "tpu")


class Client:
    """The devices of one platform."""

    def __init__(self, jax: Any, platform: str) -> None:
        from jax.extend.backend import get_backend

        try:
            self._client: Any = get_backend(platform)
        except RuntimeError as error:
            raise UnavailableError(f"PJRT has no {platform} here: {error}") from None
        self._jax = jax
        self.platform = platform
        self.devices: list[Any] = self._client.local_devices()

    def compile(self, program: bytes, devices: Sequence[int], splits: Sequence[bool] = ()) -> Program:
        """Compile a portable artefact.

        Args:
            devices: by number; where there are several, the program's annotations say what is split over them.
            splits: for each result, whether it is.

        Raises:
            ExecutionError: the compiler of the device refuses it.
        """
        from jaxlib import xla_client

        chosen = self._chosen(devices)
        options = xla_client.CompileOptions()
        options.num_replicas, options.num_partitions = 1, len(chosen)
        options.device_assignment = xla_client.DeviceAssignment.create(np.array([[d.id for d in chosen]]))
        build = options.executable_build_options
        build.num_replicas, build.num_partitions = 1, len(chosen)
        build.use_spmd_partitioning = build.use_shardy_partitioner = len(chosen) > 1
        try:
            loaded = self._client.compile_and_load(program, xla_client.DeviceList(tuple(chosen)), options)
        except RuntimeError as error:
            raise ExecutionError(f"the {self.platform}'s compiler refuses the program: {error}") from error
        return Program(self._jax, loaded, [self._sharding(chosen, split) for split in splits] if splits else [])

    def put(self, array: Array, devices: Sequence[int], split: bool = False) -> DeviceArray:
        """An array on devices: on each of them, or split over them along its first axis. The memory is copied."""
        chosen = self._chosen(devices)
        target = chosen[0] if len(chosen) == 1 else self._sharding(chosen, split)
        # Unless it is told otherwise, jax takes 64-bit numbers for 32-bit ones.
        with self._jax.enable_x64(True) if array.dtype.itemsize == 8 else nullcontext():
            # A copy of our own: jax copies later, when the caller's array may hold other numbers.
            return self._jax.device_put(np.array(array), target)

    def _chosen(self, numbers: Sequence[int]) -> list[Any]:
        """Devices by number. Virtual ones may be more than PJRT has, and share then, as long as each is used alone."""
        count = len(self.devices)
        if len(numbers) > count or (self.platform != "cpu" and max(numbers) >= count):
            hint = (
                f" Set XLA_FLAGS=--xla_force_host_platform_device_count={len(numbers)} before jax is imported."
                if self.platform == "cpu" else ""
            )  # fmt: skip
            wanted = ", ".join(map(str, numbers))
            raise UnavailableError(f"devices {wanted} are asked for, but PJRT has {count} here.{hint}")
        return [self.devices[number % count] for number in numbers]

    def _sharding(self, devices: Sequence[Any], split: bool) -> Any:
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        return NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec("batch") if split else PartitionSpec())


class Program:
    """A program that is compiled and on its devices. Safe to call from several threads."""

    def __init__(self, jax: Any, loaded: Any, shardings: Sequence[Any]) -> None:
        self._jax, self._loaded, self._shardings = jax, loaded, shardings

    def __call__(self, arguments: Sequence[DeviceArray]) -> list[DeviceArray]:
        """Start it; the results can be passed on before they are there.

        Raises:
            ExecutionError: the arguments do not fit, or the device is out of memory.
        """
        try:
            parts = self._loaded.execute_sharded(list(arguments)).disassemble_into_single_device_arrays()
        except RuntimeError as error:
            raise ExecutionError(f"the device could not run the program: {error}") from error
        if not self._shardings:
            return [shards[0] for shards in parts]
        return [self._whole(shards, sharding) for shards, sharding in zip(parts, self._shardings, strict=True)]

    def _whole(self, shards: Sequence[Any], sharding: Any) -> DeviceArray:
        first, *rest = shards[0].shape or (0,)
        count = len(shards) if sharding.spec else 1
        shape = (first * count, *rest) if shards[0].shape else ()
        with self._jax.enable_x64(True):
            return self._jax.make_array_from_single_device_arrays(shape, sharding, list(shards))

    @property
    def hlo(self) -> str:
        """What became of it, after partitioning."""
        return "\n".join(module.to_string() for module in self._loaded.hlo_modules())
