"""Runs the command given as arguments for as long as standard input stays open.

The other end of standard input is held by xtask, and the operating system closes it however xtask
ends. So the command never outlives xtask, not even when that is killed.
"""

import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 10
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def stop():
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def stop_at_end_of_input():
    # Not sys.stdin: its lock would be in the way when the interpreter ends.
    while os.read(0, 4096):
        pass
    stop()


def in_background(function):
    threading.Thread(target=function, daemon=True).start()


# No signal may come between the start of the command and the moment we can end it.
unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
for number in SIGNALS:
    signal.signal(number, lambda *_: in_background(stop))
child = subprocess.Popen(
    sys.argv[1:],
    stdin=subprocess.DEVNULL,
    preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, unblocked),
)
signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
in_background(stop_at_end_of_input)

status = child.wait()
sys.exit(128 - status if status < 0 else status)
