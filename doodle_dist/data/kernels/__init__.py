"""Compiled code that works on packed drawings. Numba and LLVM stay in here."""
