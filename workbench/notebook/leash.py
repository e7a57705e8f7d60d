"""``python -m workbench.notebook.leash COMMAND``: the command line, which stops when its standard input closes.

Whoever holds the other end of that pipe may end in any way, even killed outright: the pipe closes, and the command is
asked to stop as by SIGTERM, which saves what it has.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 60.0  # to finish a step and save


def watch() -> None:
    """Waits for the pipe to close, then asks this process to stop, and makes it where it does not."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=watch, daemon=True).start()
    sys.argv[0] = "workbench"
    runpy.run_module("workbench", run_name="__main__")
