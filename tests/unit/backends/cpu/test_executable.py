from __future__ import annotations

import threading

import numpy as np
import pytest
from cpu_programs import compiled, main, normal

from thalweg.backends.cpu.executable import Executable
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.diagnostics import ExecutionError

ADD = main(
    ["3x5xf32", "3x5xf32"], ["3x5xf32"], "%2 = stablehlo.add %0, %1 : tensor<3x5xf32>\nreturn %2 : tensor<3x5xf32>"
)
COUNT = """func.func @main(%n: tensor<4xi32> {tw.alias = 1 : i64}, %x: tensor<4xi32>)
    -> (tensor<4xi32>, tensor<4xi32>) {
  %new = stablehlo.add %n, %x : tensor<4xi32>
  return %n, %new : tensor<4xi32>, tensor<4xi32>
}"""


def test_call() -> None:
    x, y = normal(3, 5), normal(3, 5, seed=1)
    (result,) = compiled(ADD)([x, y])
    np.testing.assert_array_equal(result, x + y)


def test_results_are_new_arrays_each_time() -> None:
    program, x = compiled(ADD), normal(3, 5)
    (first,), (second,) = program([x, x]), program([x, np.zeros_like(x)])
    np.testing.assert_array_equal(first, x + x)
    np.testing.assert_array_equal(second, x)


def test_strided_arguments_are_taken() -> None:
    x = normal(5, 3)
    (result,) = compiled(ADD)([x.T, x.T])
    np.testing.assert_array_equal(result, x.T + x.T)


def test_variables_are_written_in_place() -> None:
    count = np.arange(4, dtype=np.int32)
    old, new = compiled(COUNT)([count, np.full(4, 10, np.int32)])
    assert new is count
    np.testing.assert_array_equal(new, [10, 11, 12, 13])
    np.testing.assert_array_equal(old, [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([normal(3, 5)], "takes 2 arrays, but was called with 1"),
        ([normal(3, 5), normal(5, 3)], r"argument 1 must be f32\[3,5\], but is float32\[5,3\]"),
        ([normal(3, 5), normal(3, 5).astype(np.float64)], r"argument 1 must be f32\[3,5\], but is float64\[3,5\]"),
    ],
)
def test_wrong_arguments(arrays: list[np.ndarray], message: str) -> None:
    with pytest.raises(ExecutionError, match=message):
        compiled(ADD)(arrays)


def test_a_variable_must_be_writable_and_contiguous() -> None:
    program, step = compiled(COUNT), np.ones(4, np.int32)
    frozen = np.zeros(4, np.int32)
    frozen.flags.writeable = False
    for variable in (np.zeros(8, np.int32)[::2], frozen):
        with pytest.raises(ExecutionError, match="modified in place"):
            program([variable, step])


def test_serialized_programs_run() -> None:
    program = compiled(COUNT)
    again = Executable.deserialize(program.serialize())
    assert again.signature == program.signature
    count = np.zeros(4, np.int32)
    again([count, np.ones(4, np.int32)])
    np.testing.assert_array_equal(count, np.ones(4))


def test_damaged_files_are_refused() -> None:
    data = compiled(ADD).serialize()
    for damaged in (b"", data[:10], data[:-1], b"x" + data[1:], data[:40] + b"!!" + data[42:]):
        with pytest.raises(ExecutionError, match="Compile it again"):
            Executable.deserialize(damaged)


@pytest.mark.timeout(60)
def test_calls_from_several_threads() -> None:
    program = compiled(ADD)
    failures: list[int] = []

    def work(seed: int) -> None:
        x = normal(3, 5, seed=seed)
        for _ in range(200):
            if not np.array_equal(program([x, x])[0], x + x):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_options_are_checked_and_keyed() -> None:
    assert CpuOptions(threads=1).key() == CpuOptions(threads=1).key() != CpuOptions(threads=2).key()
    with pytest.raises(ValueError, match="opt_level is 7"):
        CpuOptions(opt_level=7)
    with pytest.raises(ValueError, match="threads is -1"):
        CpuOptions(threads=-1)
