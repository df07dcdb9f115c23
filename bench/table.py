"""The table: figures beside what they are to be compared with and what they are to reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.row import Row
from bench.stores.every import STORES

_HEAD: Final = ("workload", "store", "sitq", "beside it", "ratio", "to reach", "")


def verdict(row: Row) -> str:
    """`ok`, `missed`, `failed`, or nothing where there is no figure to reach."""
    if row.error or row.figure is None:
        return "failed"
    goal = STORES[row.store].goal(row.workload)
    met = None if goal is None else goal.met(row.figure, row.ratio)
    return "" if met is None else "ok" if met else "missed"


def table(rows: Sequence[Row]) -> str:
    """All rows as a Markdown table."""
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    rule = tuple("-" * width for width in widths)
    errors = [f"\n{row.workload} on {row.store} failed: {row.error}" for row in rows if row.error]
    return "\n".join([*(_line(line, widths) for line in (cells[0], rule, *cells[1:])), *errors])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (text.ljust(width) for text, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def _cells(row: Row) -> tuple[str, ...]:
    if row.figure is None:
        return (row.workload, row.store, "see below", "", "", "", verdict(row))
    goal = STORES[row.store].goal(row.workload)
    return (
        row.workload,
        row.store,
        _figure(row),
        "" if row.other is None else f"{row.beside} {_number(row.other)}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if goal is None else goal.text(row.unit, row.beside),
        verdict(row),
    )


def _figure(row: Row) -> str:
    text = f"{_number(row.figure or 0.0)} {row.unit}"
    if row.spread is None or row.spread[0] == row.spread[1]:
        return text
    return f"{text} ({_number(row.spread[0])} to {_number(row.spread[1])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
