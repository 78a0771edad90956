"""Compiling kernels, and keeping their machine code on disk."""

# mypy: allow-subclassing-any

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile


class _FolderCache(FunctionCache):
    """Numba's cache of a function, out of date once any file of the function's folder has changed.

    Numba itself looks at the function's own file only, and goes on with the machine code of a helper that is no more.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp(), _digest(Path(function.__code__.co_filename).parent)
        self._cache_file = IndexDataCacheFile(self.cache_path, self._impl.filename_base, stamp)


@cache
def _digest(folder: Path) -> bytes:
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.glob("*.py")))).digest()


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function; its machine code is kept, where there is a place for it, until its own file changes."""
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # Numba found no folder it may write to
        return numba.njit(function, **options)


def jit(function: Callable[..., Any]) -> Any:
    """Compile for calls from Python, without the GIL."""
    kernel = numba.njit(function, nogil=True, error_model="numpy")
    with contextlib.suppress(RuntimeError):  # Numba found no folder it may write to
        kernel._cache = _FolderCache(function)
    return kernel


def inline(function: Callable[..., Any], **options: Any) -> Any:
    """Compile into each kernel that calls it."""
    return numba.njit(function, nogil=True, error_model="numpy", forceinline=True, **options)
