"""What a process gives up before it opens the files of strangers. Standard library only; other systems than Linux: nothing."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

#: Address space of a Blender process: a share of the machine's memory, and so many bytes at least.
MEMORY_SHARE, LEAST_MEMORY = 0.75, 6 * 2**30
#: linux/prctl.h and linux/capability.h.
PR_SET_DUMPABLE, PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, LAST_CAPABILITY, CAPABILITY_VERSION_3 = (
    4,
    24,
    1,
    40,
    0x20080522,
)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


@functools.cache
def keep_others_out() -> None:
    """Let no process of the same user read this one's memory or the environment it was started with."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def confine() -> None:
    """Limit the memory of this process, and let it look into no other one, even as root."""
    if sys.platform != "linux":
        return
    import os
    import resource

    library = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    if library.capget(ctypes.byref(header), sets) == 0:
        # Several rights of root open the memory of others (SYS_PTRACE, PERFMON, SYS_ADMIN); files are all that is needed.
        for name in ("effective", "permitted", "inheritable"):
            setattr(sets[0], name, getattr(sets[0], name) & (1 << CAP_DAC_OVERRIDE))
            setattr(sets[1], name, 0)
        for capability in range(LAST_CAPABILITY + 1):
            if capability != CAP_DAC_OVERRIDE:
                library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        library.capset(ctypes.byref(header), sets)
    if Path("/dev/nvidiactl").exists():
        return  # CUDA reserves far more address space than it uses
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most, hard = (
        max(LEAST_MEMORY, int(memory * MEMORY_SHARE)),
        resource.getrlimit(resource.RLIMIT_AS)[1],
    )
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == -1 else min(most, hard), hard))
