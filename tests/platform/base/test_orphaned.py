import subprocess
import sys

PARENT = """
import subprocess, sys
with subprocess.Popen([sys.executable, "-c", sys.argv[1]]):
    pass
"""
CHILD = """
import os, signal
from advseg.platform.base.orphaned import stop_with_parent
signal.signal(signal.SIGTERM, lambda *_: (print("stopped", flush=True), os._exit(0)))
stop_with_parent()
print("working", flush=True)
signal.alarm(60) # ends one that nobody stops
while True:
    signal.pause()
"""


def test_a_process_whose_parent_is_killed_is_told_to_stop() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "working\n"
        parent.kill()
        assert parent.stdout.readline() == "stopped\n"
