"""The thread pool, in LLVM IR: the same text runs in the JIT and is linked into exported libraries.

`void tw_parallel_for(ptr function, ptr argument, i32 tasks, i32 threads, i32 wake)` calls `function(i64 task, i64
thread, ptr argument)` for every task and returns when all are done. No two calls at a time have the same `thread`,
which is less than `threads`. The caller takes part (as thread 0), so that it may finish alone if no worker is awake;
for short work it need not `wake` those that sleep, which takes microseconds: one of sixteen such calls does, and if
more come soon, the others find the workers awake.

How tasks are handed out. `@generation` counts the jobs in twos; it is odd (closed) while a new one is written down,
then even. A thread reads the generation, then the job, then the generation again: if that is the same, what it read
of the job was whole. It takes a task by writing the generation over an older one among `@claims`, one for each task,
which no two threads can do, and nobody after the job is done, since then all its claims hold that generation or a
later one. Every thread begins with its own share of the tasks, and goes on with those of the next: a program that is
called again finds its part of the data in the caches of the same processor (up to twice as fast where it does), and a
processor that is taken away delays nobody. Idle workers spin for a while, then sleep on a futex. One job runs at a
time; a second caller finds the pool busy and does its tasks itself. Workers never end, and the memory of this code is
never freed: a sleeping thread returns into it.
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
@generation = internal global i64 0, align 64 ; of the last job; odd while it is written down
@claims = internal global [CLAIMS x i64] zeroinitializer, align 64 ; the generation that took each task last
@done = internal global i32 0, align 64       ; finished tasks of this generation
@seq = internal global i32 0, align 64        ; what sleeping workers wait on
@sleepers = internal global i32 0, align 64
@busy = internal global i32 0, align 64       ; is a job running?
@function = internal global ptr null, align 64
@argument = internal global ptr null
@tasks = internal global i32 0
@threads = internal global i32 0
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(ptr)
declare i32 @sched_yield()

; Do tasks of the open job until none is left, unless its generation is `last`; the generation that it was, or `last`.
define internal i64 @drain(i32 %thread, i64 %last) {
entry:
  %seen = load atomic i64, ptr @generation seq_cst, align 8
  %closed = trunc i64 %seen to i1
  %known = icmp eq i64 %seen, %last
  %idle = or i1 %closed, %known
  br i1 %idle, label %away, label %open
away:
  ret i64 %last
open:
  %f = load atomic ptr, ptr @function monotonic, align 8
  %a = load atomic ptr, ptr @argument monotonic, align 8
  %n = load atomic i32, ptr @tasks monotonic, align 4
  %limit = load atomic i32, ptr @threads monotonic, align 4
  fence acquire
  %again = load atomic i64, ptr @generation seq_cst, align 8
  %whole = icmp eq i64 %again, %seen
  %invited = icmp ult i32 %thread, %limit
  %any = icmp ne i32 %n, 0
  %part = and i1 %invited, %any
  %go = and i1 %whole, %part
  br i1 %go, label %begin, label %away
begin:
  %number = zext i32 %thread to i64
  %all = zext i32 %n to i64
  %wide = zext i32 %limit to i64
  %scaled = mul i64 %number, %all
  %first = udiv i64 %scaled, %wide
  br label %look
look:
  %i = phi i64 [ 0, %begin ], [ %j, %next ]
  %task = phi i64 [ %first, %begin ], [ %following, %next ]
  %claim = getelementptr i64, ptr @claims, i64 %task
  %old = load atomic i64, ptr %claim monotonic, align 8
  %free = icmp ult i64 %old, %seen
  br i1 %free, label %try, label %next
try:
  %swap = cmpxchg ptr %claim, i64 %old, i64 %seen seq_cst seq_cst
  %mine = extractvalue { i64, i1 } %swap, 1
  br i1 %mine, label %run, label %next
run:
  call void %f(i64 %task, i64 %number, ptr %a)
  %count = atomicrmw add ptr @done, i32 1 release
  br label %next
next:
  %j = add i64 %i, 1
  %up = add i64 %task, 1
  %past = icmp eq i64 %up, %all
  %following = select i1 %past, i64 0, i64 %up
  %more = icmp ult i64 %j, %all
  br i1 %more, label %look, label %out
out:
  ret i64 %seen
}

define internal ptr @worker(ptr %self) {
entry:
  %wide = ptrtoint ptr %self to i64
  %thread = trunc i64 %wide to i32
  br label %top
top:
  %idle = phi i32 [ 0, %entry ], [ 0, %top ], [ %more, %spin ], [ 0, %sleep ]
  %last = phi i64 [ 0, %entry ], [ %reached, %top ], [ %last, %spin ], [ %last, %sleep ]
  %now = load atomic i32, ptr @seq seq_cst, align 4
  %reached = call i64 @drain(i32 %thread, i64 %last)
  %did = icmp ne i64 %reached, %last
  br i1 %did, label %top, label %spin
spin:
  call void @pause()
  %more = add i32 %idle, 1
  %again = icmp ult i32 %more, SPIN
  br i1 %again, label %top, label %sleep
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
  %short = icmp ule i32 %n, CLAIMS
  br i1 %short, label %ask, label %alone
ask:
  %lock = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic
  %free = extractvalue { i32, i1 } %lock, 1
  br i1 %free, label %post, label %alone
alone:
  %i = phi i32 [ 0, %entry ], [ 0, %ask ], [ %j, %step ]
  %more = icmp ult i32 %i, %n
  br i1 %more, label %step, label %out
step:
  %task = zext i32 %i to i64
  call void %f(i64 %task, i64 0, ptr %a)
  %j = add i32 %i, 1
  br label %alone
post:
  %seen = load atomic i64, ptr @generation monotonic, align 8
  %odd = add i64 %seen, 1
  %old = atomicrmw xchg ptr @generation, i64 %odd seq_cst
  store atomic ptr %f, ptr @function monotonic, align 8
  store atomic ptr %a, ptr @argument monotonic, align 8
  store atomic i32 %n, ptr @tasks monotonic, align 4
  store atomic i32 %limit, ptr @threads monotonic, align 4
  store atomic i32 0, ptr @done monotonic, align 4
  %even = add i64 %seen, 2
  %old2 = atomicrmw xchg ptr @generation, i64 %even seq_cst
  %o = atomicrmw add ptr @seq, i32 1 seq_cst
  %asleep = load atomic i32, ptr @sleepers seq_cst, align 4
  %any = icmp ne i32 %asleep, 0
  %turn = and i64 %even, 31                    ; generations go up in twos
  %is_turn = icmp eq i64 %turn, 0
  %asked = icmp ne i32 %wake, 0
  %worthwhile = or i1 %asked, %is_turn
  %rousing = and i1 %any, %worthwhile
  br i1 %rousing, label %rouse, label %run
rouse:
  call void @wake(ptr @seq)
  br label %run
run:
  %reached = call i64 @drain(i32 0, i64 0)
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
