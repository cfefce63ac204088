"""Tasks in several processes that run steps together.

    master (the user's process)                 task servers (one process each)
      Master.run(program, feeds) ──"run"──▶       TaskServer ── Task.run
                                                      │ "tensor" to other servers, as soon as a value is there
      fetches              ◀──"done"/"failed"──       │

`server.py` is a task that listens, `master.py` speaks to all of them, `rendezvous.py` sends values where they are
waited for, `protocol.py` says how calls and errors travel. `launch.py` has Ray start the tasks, restart those that die,
and tell the master. All but that works over any transport, and nothing here knows the compiler.
"""
