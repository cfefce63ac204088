"""Transports between processes: big tensors without copies, keys, and peers that are killed."""

import gc
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

zmq = pytest.importorskip("zmq")
monitoring = pytest.importorskip("zmq.utils.monitor")

from thalweg.dialects.diagnostics import UnavailableError  # noqa: E402
from thalweg.runtime.transport import Message, Transport  # noqa: E402
from thalweg.runtime.transport.memory import LEND_FROM, Budget, LendingPool, machine  # noqa: E402
from thalweg.runtime.transport.zeromq import ClusterKey, ZmqLink  # noqa: E402

PEER = Path(__file__).parents[3] / "support" / "transport_peer.py"
KEY = ClusterKey.new()


class Peer:
    """The process at the other end."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), KEY.public, KEY.secret], stdout=subprocess.PIPE, text=True
        )
        self.address = self.process.stdout.readline().strip()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def peer():
    made = Peer()
    yield made
    made.process.kill()
    made.process.wait(10)
    made.process.stdout.close()


@pytest.fixture
def here():
    transport = Transport(ZmqLink(KEY), patience=1.0, name="test")
    transport.messages, transport.losses = queue.Queue(), queue.Queue()
    transport.start(transport.messages.put, lambda *loss: transport.losses.put(loss))
    yield transport
    transport.close(timeout=0)


def ask(transport, peer, kind, *values, **options):
    transport.send(peer.address, Message(kind, 1, "k", values, **options))
    return transport.messages.get(timeout=20).values


def get_acquainted(transport, peer):
    """Until each side knows that the other can read its memory, bytes are sent."""
    ask(transport, peer, "echo", np.zeros(1))
    deadline = time.monotonic() + 10
    while machine() and ask(transport, peer, "echo", np.zeros(LEND_FROM))[0].flags.writeable:
        assert time.monotonic() < deadline


def lent(transport, peer):
    return transport.traffic()[peer.address].lent


def mapped_segments():
    gc.collect()
    maps = Path("/proc/self/maps").read_text().splitlines() if machine() else []
    return {line.split()[0] for line in maps if "/memfd:thalweg" in line}


def files_in_shared_memory():
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


def test_small_and_big_arrays_come_back_the_same(here, peer):
    for shape in ((), (10,), (100, 100), (700, 800)):
        for dtype in (np.float32, np.int8, ml_dtypes.bfloat16):
            sent = np.random.default_rng(0).standard_normal(shape).astype(dtype)
            (came,) = ask(here, peer, "echo", sent)
            assert came.dtype == sent.dtype
            np.testing.assert_array_equal(came, sent)


@pytest.mark.skipif(not machine(), reason="memory cannot be shared here")
def test_segments_are_limited_by_their_number_too():
    pool = LendingPool(Budget(1 << 30, segments=3))
    big = np.zeros(20_000, np.float32)
    assert [pool.lend(big) is not None for _ in range(5)] == [True, True, True, False, False]
    assert pool.segments == (3, 3)
    pool.close()
    assert 16 <= Budget.of_machine().segments <= 1024


@pytest.mark.skipif(not machine(), reason="memory cannot be shared here")
def test_big_arrays_are_lent_and_their_segments_used_again(here, peer):
    get_acquainted(here, peer)
    before = lent(here, peer)
    sent = np.arange(LEND_FROM, dtype=np.float32)
    for round_ in range(20):
        (came,) = ask(here, peer, "echo", sent + round_)
        assert not came.flags.writeable and came.ctypes.data % 64 == 0
        np.testing.assert_array_equal(came, sent + round_)
    assert lent(here, peer) == before + 20
    (pool,) = [p.pool for p in here._peers.values()]
    assert len(pool._all()) <= 5  # the probe's, and a few that were under way at once
    del came


@pytest.mark.skipif(not machine(), reason="memory cannot be shared here")
def test_a_lent_array_that_is_kept_does_not_change(here, peer):
    get_acquainted(here, peer)
    kept = [ask(here, peer, "echo", np.full(LEND_FROM, number, np.float32))[0] for number in range(10)]
    ask(here, peer, "hold", np.full(LEND_FROM, 77, np.float32))
    for number, array in enumerate(kept):
        assert (array == number).all()


@pytest.mark.skipif(not machine(), reason="memory cannot be shared here")
def test_beyond_the_budget_arrays_go_by_the_link(here, peer):
    get_acquainted(here, peer)
    here._budget.limit = 1 << 20
    for number in range(10):
        ask(here, peer, "hold", np.full(LEND_FROM * 2, number, np.float32))
    assert here._budget.used <= 1 << 20
    (total,) = ask(here, peer, "sum", np.ones(1 << 20, np.float32))
    assert total == 1 << 20


def test_only_holders_of_the_key_can_connect(peer):
    stranger = Transport(ZmqLink(ClusterKey.new()), patience=0.8)
    losses = queue.Queue()
    stranger.start(print, lambda *loss: losses.put(loss))
    stranger.send(peer.address, Message("stop"))
    assert losses.get(timeout=10)[0] == peer.address
    assert peer.process.poll() is None
    stranger.close(timeout=0)


def test_knowing_the_public_key_is_not_enough(peer):
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.curve_serverkey = KEY.public.encode()
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED)
    socket.connect(peer.address.split("@")[0])
    assert monitor.poll(5000)
    event = monitoring.recv_monitor_message(monitor)["event"]
    assert event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
    monitor.close(linger=0)
    socket.close(linger=0)
    context.destroy(linger=0)


def test_only_the_given_address_is_listened_to():
    link = ZmqLink(KEY, "127.0.0.1")
    port = int(link.address.rpartition(":")[2])
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = [line.split()[1] for line in lines if line.split()[3] == "0A"]
    assert [place for place in listening if place.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
    link.close()
    with pytest.raises(OSError, match="cannot listen on"):
        ZmqLink(KEY, "203.0.113.7")


def test_a_peer_that_is_killed_is_told_and_leaves_no_memory_behind(here, peer):
    before, segments = files_in_shared_memory(), mapped_segments()
    get_acquainted(here, peer)
    for number in range(5):
        ask(here, peer, "hold", np.full(1 << 20, number, np.float32))
    kept = ask(here, peer, "echo", np.full(1 << 20, 5, np.float32))
    if machine():
        assert here._budget.used > 5 << 20
    peer.kill()
    here.send(peer.address, Message("echo", 2, values=(np.ones(1 << 20, np.float32),)))
    address, error = here.losses.get(timeout=10)
    assert address == peer.address and isinstance(error, UnavailableError)
    assert (kept[0] == 5).all()  # what was received from it can still be read
    if machine():
        assert here._budget.used == 0
    assert files_in_shared_memory() <= before
    del kept
    assert mapped_segments() <= segments


def test_nothing_is_left_after_close(peer):
    before, open_before = files_in_shared_memory(), open_segments()
    here = Transport(ZmqLink(KEY))
    messages = queue.Queue()
    here.start(messages.put, print)
    for _ in range(3):
        here.send(peer.address, Message("echo", values=(np.ones(1 << 20, np.float32),)))
        messages.get(timeout=10)
    assert open_segments() > open_before, "they went by shared memory"
    here.close()
    assert files_in_shared_memory() <= before
    assert open_segments() <= open_before


def open_segments() -> int:
    """Segments that this process has open: other tests of it may have some, too."""
    files = [os.readlink(file) for file in Path("/proc/self/fd").iterdir() if os.path.lexists(file)]
    return sum("memfd:thalweg" in name for name in files)
