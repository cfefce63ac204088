"""The thread pool, in LLVM IR: the same text runs in the JIT and is linked into exported libraries.

`void tw_parallel_for(ptr function, ptr argument, i32 tasks, i32 threads, i32 wake)` calls `function(i64 task, i64
thread, ptr argument)` for every task and returns when all are done. No two calls at a time have the same `thread`,
which is less than `threads`. The caller takes part (as thread 0), so that it may finish alone if no worker is awake;
for short work it need not `wake` those that sleep, which takes microseconds: one of sixteen such calls does, and if
more come soon, the others find the workers awake.

How tasks are handed out. Each thread has a lane: a range of tasks that lie side by side, the same ones whenever a job
has as many tasks and threads, so that what a task reads is in the caches of the processor that read it the last time.
A thread does the tasks of its own lane, then what it finds in the others. A lane's ticket holds the job's generation,
the lane's end and its next task; what to call is beside it. A thread reads the ticket, then what to call, and takes
the task by compare-and-swap of the ticket: if that succeeds, the task was open all the time, its job cannot have
ended, and what was read was that job's. Only threads whose own lane is of a job's generation take part in it: they
are the ones that were asked, and no task is taken from a lane whose thread could not see it yet. Idle workers spin for
a while, then sleep on a futex. One job runs at a time; a second caller finds the pool busy and does its tasks itself.
Workers never end, and the memory of this code is never freed: a sleeping thread returns into it.
"""

from __future__ import annotations

import ctypes
import platform
import threading

from thalweg.backends.cpu.jit import Code
from thalweg.backends.cpu.kept import object_code
from thalweg.backends.cpu.once import once

PARALLEL_FOR = "tw_parallel_for"
MAX_WORKERS = 255
_SPIN = 4000  # pauses before a worker sleeps: a few hundred microseconds
_CLAIMS = 4 * (MAX_WORKERS + 1)  # tasks of a job that is shared; a longer one is done by its caller
_PATIENCE = 2000  # pauses before a caller gives its processor to the worker that it waits for


def pool_ir(system: str = "", processor: str = "") -> str:
    """The pool as LLVM IR for an operating system and processor, as `platform` names them; by default, this machine's.

    It needs `pthread_create`, `pthread_detach`, `sched_yield` and, on Linux, `syscall` from the C library.

    Raises:
        ValueError: a system without a known way to let a thread wait on a word of memory.
    """
    system, processor = system or platform.system(), (processor or platform.machine()).lower()
    arm = processor in ("aarch64", "arm64")
    if system == "Linux" and (arm or processor in ("x86_64", "amd64")):
        wait = _LINUX_WAIT.format(number=98 if arm else 202)
    elif system == "Darwin":
        wait = _DARWIN_WAIT
    else:
        raise ValueError(f"the thread pool knows no wait on {system} {processor}; compile with threads=1.")
    pause = _ARM_PAUSE if arm else _X86_PAUSE
    pool = _POOL
    for name, number in {"SPIN": _SPIN, "PATIENCE": _PATIENCE, "CLAIMS": _CLAIMS}.items():
        pool = pool.replace(name, str(number))
    return pool + wait + pause


class _Pool:
    """The process's pool. Its code stays in memory for ever."""

    def __init__(self) -> None:
        code = Code(object_code(pool_ir()), PARALLEL_FOR, "tw_pool_start")
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))  # not freed at exit either: workers sleep inside
        self.parallel_for = code.address(PARALLEL_FOR)
        self._start = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(code.address("tw_pool_start"))
        self._lock = threading.Lock()
        self._workers = 0

    def ensure(self, workers: int) -> None:
        """Start workers until there are as many."""
        with self._lock:
            missing = min(workers, MAX_WORKERS) - self._workers
            if missing > 0:
                self._workers += self._start(self._workers + 1, missing)


@once
def _pool() -> _Pool:
    return _Pool()


def parallel_for_address(threads: int) -> int:
    """The address of `tw_parallel_for`, with workers enough for `threads` threads, the caller's included.

    Example:
        >>> parallel_for_address(1) != 0
        True
    """
    pool = _pool()
    pool.ensure(threads - 1)
    return pool.parallel_for


_POOL = """
%lane = type { i64, ptr, ptr, [5 x i64] }     ; ticket: generation << 32 | end << 16 | next task; function; argument
@lanes = internal global [256 x %lane] zeroinitializer, align 64
@threads = internal global i32 1, align 64    ; how many lanes the last job had
@generation = internal global i64 0           ; of the last job
@done = internal global i32 0, align 64       ; finished tasks of this generation
@seq = internal global i32 0, align 64        ; what sleeping workers wait on
@sleepers = internal global i32 0
@busy = internal global i32 0                 ; is a job running?
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(ptr)
declare i32 @sched_yield()

; Do tasks of the job that the thread was asked for, until none is left. Was there any?
define internal i1 @drain(i32 %thread) {
entry:
  %own = getelementptr %lane, ptr @lanes, i32 %thread
  %mine = load atomic i64, ptr %own seq_cst, align 8
  %job = lshr i64 %mine, 32
  %count = load atomic i32, ptr @threads monotonic, align 4
  br label %choose
choose:
  %k = phi i32 [ 0, %entry ], [ %k1, %none ]
  %before = phi i1 [ false, %entry ], [ %did, %none ]
  %further = add i32 %thread, %k
  %which = urem i32 %further, %count
  %lane = getelementptr %lane, ptr @lanes, i32 %which
  br label %look
look:
  %did = phi i1 [ %before, %choose ], [ %did, %try ], [ true, %run ]
  %seen = load atomic i64, ptr %lane seq_cst, align 8
  %generation = lshr i64 %seen, 32
  %same = icmp eq i64 %generation, %job
  %next = and i64 %seen, 65535
  %high = lshr i64 %seen, 16
  %end = and i64 %high, 65535
  %left = icmp ult i64 %next, %end
  %take = and i1 %same, %left
  br i1 %take, label %try, label %none
try:
  %f_at = getelementptr %lane, ptr %lane, i32 0, i32 1
  %f = load atomic ptr, ptr %f_at monotonic, align 8
  %a_at = getelementptr %lane, ptr %lane, i32 0, i32 2
  %a = load atomic ptr, ptr %a_at monotonic, align 8
  %following = add i64 %seen, 1
  %swap = cmpxchg ptr %lane, i64 %seen, i64 %following seq_cst seq_cst
  %mine_now = extractvalue { i64, i1 } %swap, 1
  br i1 %mine_now, label %run, label %look
run:
  %number = zext i32 %thread to i64
  call void %f(i64 %next, i64 %number, ptr %a)
  %finished = atomicrmw add ptr @done, i32 1 release
  br label %look
none:
  %k1 = add i32 %k, 1
  %more = icmp ult i32 %k1, %count
  br i1 %more, label %choose, label %out
out:
  ret i1 %did
}

define internal ptr @worker(ptr %self) {
entry:
  %wide = ptrtoint ptr %self to i64
  %thread = trunc i64 %wide to i32
  br label %top
top:
  %idle = phi i32 [ 0, %entry ], [ 0, %top ], [ %more, %spin ], [ 0, %late ], [ 0, %sleep ]
  %did = call i1 @drain(i32 %thread)
  br i1 %did, label %top, label %spin
spin:
  call void @pause()
  %more = add i32 %idle, 1
  %again = icmp ult i32 %more, SPIN
  br i1 %again, label %top, label %late
late:
  %now = load atomic i32, ptr @seq seq_cst, align 4
  %found = call i1 @drain(i32 %thread)
  br i1 %found, label %top, label %sleep
sleep:
  %o = atomicrmw add ptr @sleepers, i32 1 seq_cst
  call void @wait(ptr @seq, i32 %now)
  %p = atomicrmw sub ptr @sleepers, i32 1 seq_cst
  br label %top
}

; Start n workers, numbered from `first` on; how many could be started.
define i32 @tw_pool_start(i32 %first, i32 %n) {
entry:
  %thread = alloca ptr
  br label %check
check:
  %i = phi i32 [ 0, %entry ], [ %next, %started ]
  %more = icmp slt i32 %i, %n
  br i1 %more, label %start, label %out
start:
  %number = add i32 %first, %i
  %wide = zext i32 %number to i64
  %self = inttoptr i64 %wide to ptr
  %error = call i32 @pthread_create(ptr %thread, ptr null, ptr @worker, ptr %self)
  %failed = icmp ne i32 %error, 0
  br i1 %failed, label %out, label %started
started:
  %handle = load ptr, ptr %thread
  %ignored = call i32 @pthread_detach(ptr %handle)
  %next = add i32 %i, 1
  br label %check
out:
  ret i32 %i
}

define void @tw_parallel_for(ptr %f, ptr %a, i32 %n, i32 %limit, i32 %wake) {
entry:
  %fits = icmp ult i32 %n, 65536               ; a ticket holds no larger numbers
  br i1 %fits, label %enter, label %alone
enter:
  %lock = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic
  %free = extractvalue { i32, i1 } %lock, 1
  br i1 %free, label %post, label %alone
alone:
  %i = phi i32 [ 0, %entry ], [ 0, %enter ], [ %j, %step ]
  %more = icmp ult i32 %i, %n
  br i1 %more, label %step, label %out
step:
  %task = zext i32 %i to i64
  call void %f(i64 %task, i64 0, ptr %a)
  %j = add i32 %i, 1
  br label %alone
post:
  %some = call i32 @llvm.umax.i32(i32 %limit, i32 1)
  %count = call i32 @llvm.umin.i32(i32 %some, i32 256)
  store atomic i32 %count, ptr @threads monotonic, align 4
  store atomic i32 0, ptr @done monotonic, align 4
  %last = load i64, ptr @generation, align 8
  %new = add i64 %last, 1
  store i64 %new, ptr @generation, align 8
  %generation = shl i64 %new, 32
  br label %open
open:                                          ; the lanes, the caller's at last
  %k = phi i32 [ %count, %post ], [ %lane_number, %open ]
  %end = phi i32 [ %n, %post ], [ %begin, %open ]
  %lane_number = sub i32 %k, 1
  %product = mul i32 %n, %lane_number
  %begin = udiv i32 %product, %count
  %lane = getelementptr %lane, ptr @lanes, i32 %lane_number
  %f_at = getelementptr %lane, ptr %lane, i32 0, i32 1
  store atomic ptr %f, ptr %f_at monotonic, align 8
  %a_at = getelementptr %lane, ptr %lane, i32 0, i32 2
  store atomic ptr %a, ptr %a_at monotonic, align 8
  %end_high = shl i32 %end, 16
  %range = or i32 %end_high, %begin
  %wide_range = zext i32 %range to i64
  %ticket = or i64 %generation, %wide_range
  store atomic i64 %ticket, ptr %lane release, align 8
  %lanes_left = icmp ne i32 %lane_number, 0
  br i1 %lanes_left, label %open, label %call
call:
  %o = atomicrmw add ptr @seq, i32 1 seq_cst
  %asleep = load atomic i32, ptr @sleepers seq_cst, align 4
  %any = icmp ne i32 %asleep, 0
  %turn = and i64 %new, 15
  %is_turn = icmp eq i64 %turn, 0
  %asked = icmp ne i32 %wake, 0
  %worthwhile = or i1 %asked, %is_turn
  %both = and i1 %any, %worthwhile
  br i1 %both, label %rouse, label %run
rouse:
  call void @wake(ptr @seq)
  br label %run
run:
  %did = call i1 @drain(i32 0)
  br label %join
join:
  %waited = phi i32 [ 0, %run ], [ %w, %pausing ], [ 0, %yielding ]
  %d = load atomic i32, ptr @done acquire, align 4
  %all = icmp eq i32 %d, %n
  br i1 %all, label %unlock, label %pausing
pausing:
  call void @pause()
  %w = add i32 %waited, 1
  %long = icmp ugt i32 %w, PATIENCE
  br i1 %long, label %yielding, label %join
yielding:
  %y = call i32 @sched_yield()
  br label %join
unlock:
  store atomic i32 0, ptr @busy release, align 4
  br label %out
out:
  ret void
}
declare i32 @llvm.umin.i32(i32, i32)
declare i32 @llvm.umax.i32(i32, i32)
"""

# futex(address, FUTEX_WAIT_PRIVATE = 128 | FUTEX_WAKE_PRIVATE = 129, value or count, no timeout)
_LINUX_WAIT = """
declare i64 @syscall(i64, ...)
define internal void @wait(ptr %address, i32 %value) {{
  %r = call i64 (i64, ...) @syscall(i64 {number}, ptr %address, i64 128, i32 %value, ptr null, ptr null, i64 0)
  ret void
}}
define internal void @wake(ptr %address) {{
  %r = call i64 (i64, ...) @syscall(i64 {number}, ptr %address, i64 129, i32 2147483647, ptr null, ptr null, i64 0)
  ret void
}}
"""

# UL_COMPARE_AND_WAIT = 1, ULF_WAKE_ALL = 0x100
_DARWIN_WAIT = """
declare i32 @__ulock_wait(i32, ptr, i64, i32)
declare i32 @__ulock_wake(i32, ptr, i64)
define internal void @wait(ptr %address, i32 %value) {
  %wide = zext i32 %value to i64
  %r = call i32 @__ulock_wait(i32 1, ptr %address, i64 %wide, i32 0)
  ret void
}
define internal void @wake(ptr %address) {
  %r = call i32 @__ulock_wake(i32 257, ptr %address, i64 0)
  ret void
}
"""

_X86_PAUSE = """
declare void @llvm.x86.sse2.pause()
define internal void @pause() alwaysinline {
  call void @llvm.x86.sse2.pause()
  ret void
}
"""

_ARM_PAUSE = """
declare void @llvm.aarch64.hint(i32)
define internal void @pause() alwaysinline {
  call void @llvm.aarch64.hint(i32 1)
  ret void
}
"""
