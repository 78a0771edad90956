"""How C's allocator treats what was freed."""

import ctypes
import sys

# glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _LARGEST_MMAP_THRESHOLD = 128 << 20, 32 << 20  # the latter is the most that glibc takes


def keep_freed_memory() -> None:
    """Have this process keep what it frees for the next blocks that it asks for; on glibc alone.

    Up to 128 MB at the end of each thread's heap; blocks above 32 MB are the system's own affair as before.
    Otherwise what works on blocks of megabytes gives each back to the system and gets it anew, page by page: a fifth of
    the time that parsing takes.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
