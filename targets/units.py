"""Numbers as people read them; and the interval of a measured share. Decimal units: 1 kB = 1000."""

from __future__ import annotations

import math


def bytes_text(count: float) -> str:
    """Three significant digits: 512 B, 26.9 kB, 1.72 MB."""
    if abs(count) < 1000:
        return f"{count:.0f} B"
    for unit, size in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if abs(count) < 999.5 * size or unit == "GB":
            return f"{_digits(count / size)} {unit}"
    raise AssertionError("unreachable")


def time_text(ms: float) -> str:
    """Three significant digits: 84.2 µs, 3.47 ms, 1.20 s."""
    if abs(ms) < 0.9995:
        return f"{_digits(ms * 1000)} µs"
    return f"{_digits(ms)} ms" if abs(ms) < 999.5 else f"{_digits(ms / 1000)} s"


def range_text(low_ms: float, high_ms: float) -> str:
    """Two times in the unit of the greater: '80.1-92.3 µs', with a proper dash."""
    if high_ms < 0.9995:
        return f"{_digits(low_ms * 1000)}–{_digits(high_ms * 1000)} µs"
    if high_ms < 999.5:
        return f"{_digits(low_ms)}–{_digits(high_ms)} ms"
    return f"{_digits(low_ms / 1000)}–{_digits(high_ms / 1000)} s"


def seconds_text(seconds: float) -> str:
    """'0.4 s', '48 s', '3 min 20 s'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"


def count_text(count: int) -> str:
    """Thousands apart: 430,500."""
    return f"{count:,}"


def threads_text(threads: int | None) -> str:
    """'1 thread', '2 threads'; '' where nothing ran."""
    return "" if threads is None else f"{threads} thread{'' if threads == 1 else 's'}"


def share_text(share: float) -> str:
    """A share in [0, 1] as '99.13 %'."""
    return f"{100 * share:.2f} %"


def points_text(difference: float) -> str:
    """A difference of shares in points, with a true minus sign: '−0.12', '+0.30', '±0.00'."""
    text = f"{100 * difference:+.2f}"
    return "±0.00" if float(text) == 0 else text.replace("-", "−")


def times_text(ratio: float) -> str:
    """'39.4×', '1.02×', '0.53×'."""
    return f"{_digits(ratio)}×" if ratio >= 0.995 else f"{ratio:.2f}×"


def wilson(share: float, samples: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % score interval of a share seen in `samples` trials (Wilson 1927; both in [0, 1])."""
    centre = share + z * z / (2 * samples)
    half = z * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def _digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    magnitude = abs(value)
    return f"{value:.0f}" if magnitude >= 99.95 else f"{value:.{1 if magnitude >= 9.995 else 2}f}"
