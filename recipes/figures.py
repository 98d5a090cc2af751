"""Figures as tables show them."""

from typing import Any


def spanned(value: Any, interval: list[float] | None) -> str:
    """Write a figure and the interval of it, if there is one.

    >>> spanned(0.98765, [0.9, 1.0]), spanned(None, None)
    ('0.988 (0.9 to 1)', '–')
    """
    return shown(value) if interval is None else f"{shown(value)} ({' to '.join(f'{bound:.3g}' for bound in interval)})"


def shown(value: Any) -> str:
    """Write a figure as tables do.

    >>> shown(0.98765), shown(12_000), shown(3e-16), shown(None)
    ('0.988', '12,000', '3e-16', '–')
    """
    if isinstance(value, float):
        if 0 < abs(value) < 5e-4:
            return f"{value:.0e}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "–" if value is None else str(value)
