"""Copying: what waits in one store goes on in another one, while producers and workers run."""

from sitq.copying.copy import copy_tasks
from sitq.copying.report import Copied
from sitq.exceptions import CopyError

__all__ = ["Copied", "CopyError", "copy_tasks"]
