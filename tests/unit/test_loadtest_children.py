"""Before a program ends, its children have ended: the willing and the deaf."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import subprocess, sys
from loadtest.children import children, end_children
deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
started = [subprocess.Popen(["sleep", "60"]), subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)]
started[1].stdout.readline()
assert sorted(children()) == sorted(one.pid for one in started)
end_children(timeout_s=0.5)
assert children() == []
print(*[one.pid for one in started])
"""


def test_no_child_stays() -> None:
    began = time.monotonic()
    # In a process of its own: it ends every child it has.
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert not any(Path(f"/proc/{pid}").exists() for pid in done.stdout.split())
    assert time.monotonic() - began < 20
