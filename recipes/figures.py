"""Figures as tables show them."""

from typing import Any


def shown(value: Any) -> str:
    """Write a figure as tables do.

    >>> shown(0.98765), shown(12_000), shown(None)
    ('0.988', '12,000', '–')
    """
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "–" if value is None else str(value)
