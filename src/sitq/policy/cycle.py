"""The way by which a task depends on itself, for the message of its refusal."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from sitq.record import Record


def cycle_through(task_id: str, group: Sequence[Record]) -> list[str]:
    """The shortest way from a task by its dependencies inside the group back to it, both ends named."""
    parents = {record.id: [edge.parent for edge in record.edges] for record in group}
    came_from: dict[str, str] = {}
    line = deque([task_id])
    while line:
        one = line.popleft()
        for parent in parents.get(one, ()):
            if parent == task_id:
                way = [one]
                while way[-1] != task_id:
                    way.append(came_from[way[-1]])
                return [*reversed(way), task_id]
            if parent not in came_from:
                came_from[parent] = one
                line.append(parent)
    return [task_id]
