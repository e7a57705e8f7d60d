"""Which process holds a lease, and whether it is known to be dead."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from workbench.process import boot_id, started_at, this_host


class LeaseOwner(BaseModel):
    """A process by host, boot, process namespace, pid and start."""

    model_config = ConfigDict(frozen=True)

    host: str
    boot: str
    namespace: str
    pid: int
    started: str

    def is_known_dead(self) -> bool:
        """Whether it ran where this process can look, and has ended; elsewhere only its silence tells."""
        here = this_process()
        if (self.host, self.boot, self.namespace) != (here.host, here.boot, here.namespace):
            return False
        return started_at(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> LeaseOwner:
    """The process that asks."""
    pid = os.getpid()
    return LeaseOwner(
        host=this_host(), boot=boot_id(), namespace=_namespace(), pid=pid, started=started_at(pid) or "unknown"
    )


def _namespace() -> str:
    """Two containers may share a name and a boot; their process ids are then of two namespaces."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
