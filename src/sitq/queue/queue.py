"""The queue that users hold: all its faces in one class."""

from __future__ import annotations

from sitq.queue.declaring import Declaring
from sitq.queue.flowing import Flowing
from sitq.queue.limiting import Limiting
from sitq.queue.pauses import Pausing
from sitq.queue.retrying import Retrying
from sitq.queue.watching import Watching


class TaskQueue(Declaring, Flowing, Retrying, Pausing, Limiting, Watching):
    """Puts tasks into a store, reads what became of them, and has a say in it meanwhile.

    Each base class is one face, in a module of its name: functions that belong to the queue
    (`declaring`), tasks going in (`producing`, `submitting`), results coming out (`waiting`), an
    operator's words (`control`, `retrying`, `pauses`, `limiting`), a look at what is there (`listing`)
    and at what happens (`watching`), batches and graphs (`flowing`). What they share, the store and the
    session of the running event loop, is in `base`.

    Args:
        backend: The store, or a URL such as `sqlite:///tasks.db` that opens one.
        serializer: Turns arguments into bytes; `CloudpickleSerializer` by default.
        queue: The named queue that tasks wait in unless their options say otherwise.
        keys: Sign what is stored; by default those in `SITQ_SECRET_KEYS`, if it is set.
        trust_store: Load code from a store that others can write to although it is not signed.
        max_length: How many tasks may wait in that queue when one is enqueued through this object.
        when_full: Whether an enqueue beyond that is refused with `QueueFullError` (`refuse`), or waits until
            there is room (`wait`).
        spill: Where payloads are kept that are too large for the store, and results are found.
        middleware: Async functions `(task, call_next)` around each enqueue, the first one outermost, or
            `Middleware` objects, which workers that `sitq worker` makes of this queue take over.
        lifespan: What frames the work of workers that `sitq worker` makes of this queue. See `Worker`.
        keep_events: How many events the durable stream keeps, see `events`; 0 writes none. Workers that
            `sitq worker` makes of this queue take it over.

    It connects on first use if nobody did, and may be used from several event loops. After `close` it
    cannot be used any more.

    Raises:
        ValidationError: `backend` is neither a backend nor a URL.
    """
