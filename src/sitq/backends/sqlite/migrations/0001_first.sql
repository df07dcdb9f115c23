-- Tables carry the namespace as their prefix; `sitq_` stands for it in all statements.

CREATE TABLE sitq_meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- `served` is the turn that the queue last served, `turn` the one of its tasks without a tenant.
CREATE TABLE sitq_queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    served INTEGER NOT NULL DEFAULT 0,
    turn INTEGER NOT NULL DEFAULT 0
);

-- How many tasks a queue has in each state.
CREATE TABLE sitq_tally (
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,
    tasks INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) WITHOUT ROWID;

-- The lanes that a worker takes or leaves together. `python` is '' for any.
CREATE TABLE sitq_kind (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    python TEXT NOT NULL,
    UNIQUE (queue, name, python)
);

-- `tenant` is NULL for none, `keys` a JSON array of limit keys, `turn` NULL without a tenant.
-- The head is the lane's best ready task; without one there is nothing to start. A held lane waits for a key.
CREATE TABLE sitq_lane (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    tenant TEXT,
    keys TEXT NOT NULL,
    turn INTEGER,
    head_priority INTEGER,
    head_sequence INTEGER,
    held_by TEXT,
    tasks INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX sitq_lane_what ON sitq_lane (kind, ifnull('t' || tenant, ''), keys);
CREATE INDEX sitq_lane_open ON sitq_lane (kind, turn, head_priority DESC, head_sequence)
    WHERE head_sequence IS NOT NULL AND held_by IS NULL;
CREATE INDEX sitq_lane_held ON sitq_lane (held_by, kind, turn, head_priority DESC, head_sequence)
    WHERE held_by IS NOT NULL AND head_sequence IS NOT NULL;
CREATE INDEX sitq_lane_tenant ON sitq_lane (tenant, queue) WHERE tenant IS NOT NULL;
CREATE INDEX sitq_lane_empty ON sitq_lane (tasks) WHERE tasks = 0;

CREATE TABLE sitq_tenant (
    queue INTEGER NOT NULL,
    key TEXT NOT NULL,
    turn INTEGER NOT NULL,
    PRIMARY KEY (queue, key)
) WITHOUT ROWID;

-- The figures of a limit key, and what of them is used.
CREATE TABLE sitq_key (
    key TEXT PRIMARY KEY,
    slots INTEGER,
    rate INTEGER,
    per INTEGER NOT NULL,
    burst INTEGER NOT NULL,
    arrival INTEGER NOT NULL DEFAULT 0,
    frozen INTEGER NOT NULL DEFAULT 0,
    running INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE sitq_lane_key (
    key TEXT NOT NULL,
    lane INTEGER NOT NULL,
    PRIMARY KEY (key, lane)
) WITHOUT ROWID;

-- From `at` on the key may let tasks of the queue start whose lanes it holds.
CREATE TABLE sitq_mark (
    queue INTEGER NOT NULL,
    key TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (key, queue)
) WITHOUT ROWID;
CREATE INDEX sitq_mark_at ON sitq_mark (queue, at);

-- `stage`: 0 blocked, 1 queued, 2 queued and ready, 3 running, 4 completed, 5 failed, 6 cancelled,
-- 7 expired, 8 dead. `expire_at` is when a waiting task expires, `wants` the unique key with its scope's
-- letter and window. NULL stands for the usual value.
CREATE TABLE sitq_task (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    queue INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    stage INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER NOT NULL,
    delay INTEGER,
    created INTEGER NOT NULL,
    ttl INTEGER,
    deadline INTEGER,
    expires INTEGER,
    expire_at INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0,
    failures INTEGER,
    crashes INTEGER,
    alone INTEGER,
    token TEXT,
    owner TEXT,
    lease_until INTEGER,
    stop TEXT,
    started INTEGER,
    finished INTEGER,
    keep_until INTEGER,
    keep INTEGER,
    keep_failed INTEGER,
    stride INTEGER,
    reply TEXT,
    wants TEXT,
    parents INTEGER,
    unarmed INTEGER,
    milestone INTEGER,
    ends TEXT,
    history BLOB,
    result BLOB
);
CREATE UNIQUE INDEX sitq_task_id ON sitq_task (id);
-- An index ends with the sequence by itself; to name it would store it twice.
CREATE INDEX sitq_task_ready ON sitq_task (lane, priority DESC) WHERE stage = 2;
CREATE INDEX sitq_task_due ON sitq_task (queue, due) WHERE stage = 1;
CREATE INDEX sitq_task_expire ON sitq_task (queue, expire_at) WHERE expire_at IS NOT NULL;
CREATE INDEX sitq_task_lease ON sitq_task (lease_until) WHERE stage = 3;
CREATE INDEX sitq_task_keep ON sitq_task (keep_until) WHERE keep_until IS NOT NULL;

-- What never changes of a task, apart from what does: the pages of the one are written again with each start and end.
CREATE TABLE sitq_body (
    sequence INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);

-- What a claim reads of a task first. Its body is there only at its first attempt, and if it has nothing unusual.
CREATE VIEW sitq_fresh AS
SELECT t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.created, t.ends, iif(
    t.attempt = 0 AND coalesce(
        t.ttl, t.deadline, t.delay, t.keep, t.keep_failed, t.failures, t.crashes, t.alone,
        t.history
    ) IS NULL, b.body, NULL) AS body
FROM sitq_task AS t LEFT JOIN sitq_body AS b ON b.sequence = t.sequence;

-- What a task keeps by name for its later attempts.
CREATE TABLE sitq_step (
    task INTEGER NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (task, name)
) WITHOUT ROWID;

-- A dependency. `done`: 1 once the child has ended. A parent ends only once, so what its end meant is not noted.
CREATE TABLE sitq_edge (
    parent INTEGER NOT NULL,
    child INTEGER NOT NULL,
    effects TEXT NOT NULL,
    done INTEGER NOT NULL
);
CREATE INDEX sitq_edge_parent ON sitq_edge (parent, done, child);
CREATE INDEX sitq_edge_child ON sitq_edge (child);

-- The task behind a unique key; its state and scope say whether it still holds it.
CREATE TABLE sitq_unique (
    key TEXT PRIMARY KEY,
    task TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE sitq_claim (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    tasks TEXT NOT NULL
);

CREATE TABLE sitq_cell (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    until INTEGER
) WITHOUT ROWID;
CREATE INDEX sitq_cell_until ON sitq_cell (until) WHERE until IS NOT NULL;

CREATE TABLE sitq_topic (
    topic TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE sitq_event (
    topic TEXT NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (topic, number)
) WITHOUT ROWID;

-- Room that is given up when the disk is full, so that running tasks can still be settled.
CREATE TABLE sitq_ballast (
    number INTEGER PRIMARY KEY,
    room BLOB NOT NULL
);

INSERT INTO sitq_meta (key, value) VALUES ('sequence', 0);
