"""What becomes of memory that a step has freed."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, malloc.h
_NEVER = 2**31 - 1
_KEPT_BYTES = 2**26, 2**25
"""smallest block that is given back when it is freed: above a step's tensors, below a split of a data set; the second
is the highest that some versions of glibc take"""


def keep_freed_memory() -> None:
    """Keep what tensors on the CPU leave for the next step instead of giving it back to the kernel.

    glibc returns blocks of some megabytes at once, and the next step pays for every page of them anew: a tenth to a
    seventh of a step at 32 to 96 pixels. Blocks under 64 MiB are kept, so the process stays as large as its largest
    step; a larger one, such as the images of a split, goes back to the kernel when it is freed.
    Where there is another C library, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        any(mallopt(_MMAP_THRESHOLD, size) for size in _KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, _NEVER)
