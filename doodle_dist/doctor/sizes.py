"""Sizes and rates as findings say them."""

GIB = 1 << 30
MIB = 1 << 20


def as_size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def as_rate(bytes_per_s: float) -> str:
    return f"{bytes_per_s / MIB:,.0f} MiB/s" if bytes_per_s >= 10 * MIB else f"{bytes_per_s / MIB:.1f} MiB/s"
