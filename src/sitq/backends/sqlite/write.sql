-- Statements that write what a transaction changed. Each takes a whole batch, as bound rows or as one JSON
-- array, so that the number of steps does not depend on the number of rows.

-- name: lock
-- Takes the write lock and changes nothing. A transaction that reads first may find that it can write no more.
UPDATE sitq_meta SET value = value WHERE key = ''

-- name: make_queues
INSERT INTO sitq_queue (name)
SELECT DISTINCT value ->> 0 FROM json_each(?1) WHERE TRUE
ON CONFLICT DO NOTHING

-- name: make_kinds
INSERT INTO sitq_kind (queue, name, python)
SELECT DISTINCT q.id, j.value ->> 1, j.value ->> 2
FROM json_each(?1) AS j JOIN sitq_queue AS q ON q.name = j.value ->> 0 WHERE TRUE
ON CONFLICT DO NOTHING

-- name: make_lanes
INSERT INTO sitq_lane (kind, queue, tenant, keys, turn)
SELECT k.id, q.id, j.value ->> 3, j.value ->> 4,
    iif(j.value ->> 3 IS NULL, NULL, ifnull(t.turn, 0))
FROM json_each(?1) AS j
JOIN sitq_queue AS q ON q.name = j.value ->> 0
JOIN sitq_kind AS k ON k.queue = q.id AND k.name = j.value ->> 1 AND k.python = j.value ->> 2
LEFT JOIN sitq_tenant AS t ON t.queue = q.id AND t.key = j.value ->> 3
WHERE TRUE
ON CONFLICT DO NOTHING

-- name: find_lanes
SELECT json_group_array(json_array(l.id, l.queue, l.kind, q.name, k.name, k.python, l.tenant, l.keys))
FROM json_each(?1) AS j
JOIN sitq_queue AS q ON q.name = j.value ->> 0
JOIN sitq_kind AS k ON k.queue = q.id AND k.name = j.value ->> 1 AND k.python = j.value ->> 2
JOIN sitq_lane AS l ON l.kind = k.id AND l.keys = j.value ->> 4
    AND ifnull('t' || l.tenant, '') = ifnull('t' || (j.value ->> 3), '')

-- name: read_lanes
SELECT json_group_array(json_array(l.id, l.queue, l.kind, q.name, k.name, k.python, l.tenant, l.keys))
FROM json_each(?1) AS j
JOIN sitq_lane AS l ON l.id = j.value
JOIN sitq_kind AS k ON k.id = l.kind
JOIN sitq_queue AS q ON q.id = l.queue

-- name: make_lane_keys
INSERT INTO sitq_lane_key (key, lane)
SELECT value ->> 0, value ->> 1 FROM json_each(?1) WHERE TRUE
ON CONFLICT DO NOTHING

-- name: get_sequence
SELECT max(value, ifnull((SELECT max(sequence) FROM sitq_task), 0)) FROM sitq_meta WHERE key = 'sequence'

-- name: placed
-- The last sequence, and which of the ids are there.
SELECT json_array(
    (SELECT max(value, ifnull((SELECT max(sequence) FROM sitq_task), 0)) FROM sitq_meta WHERE key = 'sequence'),
    (SELECT json_group_array(t.id) FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.id = j.value)
)

-- name: keep_sequence
-- Before tasks are deleted, the last one perhaps among them. A put need not write it: a page less to commit.
UPDATE sitq_meta SET value = max(value, ifnull((SELECT max(sequence) FROM sitq_task), 0)) WHERE key = 'sequence'

-- name: insert_task
INSERT INTO sitq_task (
    sequence, id, queue, lane, stage, priority, due, delay, created, ttl, deadline, expires, expire_at,
    attempt, failures, crashes, alone, token, owner, lease_until, stop, started, finished, keep_until,
    keep, keep_failed, stride, reply, wants, parents, unarmed, milestone, ends, history
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_plain
INSERT INTO sitq_task (sequence, id, queue, lane, stage, priority, due, created, reply)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_tied
-- The same of tasks of which some have a tenant or parents.
INSERT INTO sitq_task (sequence, id, queue, lane, stage, priority, due, created, reply, delay, stride, parents, unarmed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_body
INSERT INTO sitq_body (sequence, body) VALUES (?, ?)

-- name: replace_body
INSERT OR REPLACE INTO sitq_body (sequence, body) VALUES (?1, ?2)

-- name: insert_edge
INSERT INTO sitq_edge (parent, child, effects, done) VALUES (?, ?, ?, ?)

-- name: insert_unique
INSERT OR REPLACE INTO sitq_unique (key, task) VALUES (?, ?)

-- name: insert_step
INSERT OR IGNORE INTO sitq_step (task, name, value) VALUES (?, ?, ?)

-- name: store
-- Everything that can change but the blobs.
UPDATE sitq_task SET
    stage = v.column2, priority = v.column3, due = v.column4, delay = v.column5, expires = v.column6,
    expire_at = v.column7, attempt = v.column8, failures = v.column9, crashes = v.column10,
    alone = v.column11, token = v.column12, owner = v.column13, lease_until = v.column14,
    stop = v.column15, started = v.column16, finished = v.column17, keep_until = v.column18,
    reply = v.column19, wants = v.column20, parents = v.column21, unarmed = v.column22, ends = v.column23
FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) AS v WHERE sequence = v.column1

-- name: send
-- A waiting task goes to another lane.
UPDATE sitq_task SET queue = ?2, lane = ?3 WHERE sequence = ?1

-- name: store_lifted
-- What a parent's end changes of a task that is still blocked, or queued by it.
UPDATE sitq_task SET
    stage = v.column2, due = v.column3, parents = v.column4, unarmed = v.column5, ends = v.column6
FROM (VALUES (?, ?, ?, ?, ?, ?)) AS v WHERE sequence = v.column1

-- name: store_history
UPDATE sitq_task SET history = substr(?2, j.value ->> 1, j.value ->> 2)
FROM json_each(?1) AS j WHERE sequence = j.value ->> 0

-- name: store_result
UPDATE sitq_task SET result = substr(?2, j.value ->> 1, j.value ->> 2)
FROM json_each(?1) AS j WHERE sequence = j.value ->> 0

-- name: drop_bodies
DELETE FROM sitq_body WHERE sequence IN (SELECT value FROM json_each(?1))

-- name: settle
-- The usual end of an attempt: what it leaves as it is need not be written.
-- ?2 says where in ?3 the results are: ten digits of the start, 0 for none, and ten of the length.
UPDATE sitq_task SET
    stage = ?4, keep_until = ?5, finished = ?6, lease_until = NULL, owner = NULL, stop = NULL,
    result = iif(substr(?2, 20 * j.key + 1, 10) = x'30303030303030303030', NULL, substr(
        ?3,
        CAST(substr(?2, 20 * j.key + 1, 10) AS INTEGER),
        CAST(substr(?2, 20 * j.key + 11, 10) AS INTEGER)))
FROM json_each(?1) AS j WHERE sequence = j.value

-- name: start
UPDATE sitq_task SET
    stage = 3, attempt = attempt + 1, token = ?2, owner = ?3, lease_until = ?4, started = ?5, expire_at = NULL
WHERE sequence IN (SELECT value FROM json_each(?1))

-- name: delete_tasks
DELETE FROM sitq_task WHERE sequence IN (SELECT value FROM json_each(?1))

-- name: delete_steps
DELETE FROM sitq_step WHERE task IN (SELECT value FROM json_each(?1))

-- name: delete_edges_of_parents
DELETE FROM sitq_edge WHERE parent IN (SELECT value FROM json_each(?1))

-- name: delete_edges_of_children
DELETE FROM sitq_edge WHERE child IN (SELECT value FROM json_each(?1))

-- name: count
INSERT INTO sitq_tally (queue, state, tasks)
SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1) WHERE TRUE
ON CONFLICT DO UPDATE SET tasks = tasks + excluded.tasks

-- name: count_one
UPDATE sitq_tally SET tasks = tasks + ?3 WHERE queue = ?1 AND state = ?2

-- name: raise_lanes
-- Tasks came: [lane, tasks more, priority of the best ready one or null, its sequence].
-- A held lane with a better head than it was judged by is to be judged anew.
UPDATE sitq_lane SET
    tasks = tasks + j.more,
    held_by = iif(j.better, NULL, held_by),
    head_priority = iif(j.better, j.priority, head_priority),
    head_sequence = iif(j.better, j.sequence, head_sequence)
FROM (
    SELECT l.id, a.value ->> 1 AS more, a.value ->> 2 AS priority, a.value ->> 3 AS sequence,
        a.value ->> 3 IS NOT NULL AND (l.head_sequence IS NULL
            OR (-(a.value ->> 2), a.value ->> 3) < (-l.head_priority, l.head_sequence)) AS better
    FROM json_each(?1) AS a JOIN sitq_lane AS l ON l.id = a.value ->> 0
) AS j
WHERE sitq_lane.id = j.id

-- name: join_lane
-- The same of a single lane that has a better head, or where none is ready: ?1 the lane, ?2 tasks more, ?3 priority,
-- ?4 sequence. To write the head as it is would write a page of the index that it stands in.
UPDATE sitq_lane SET tasks = tasks + ?2
WHERE id = ?1 AND (?4 IS NULL OR (-head_priority, head_sequence) < (-?3, ?4))

-- name: raise_lane
-- The same of a single lane in any case.
UPDATE sitq_lane SET
    tasks = tasks + ?2,
    held_by = iif(?4 IS NULL OR (-?3, ?4) > (-head_priority, head_sequence), held_by, NULL),
    head_priority = iif(?4 IS NULL OR (-?3, ?4) > (-head_priority, head_sequence), head_priority, ?3),
    head_sequence = iif(?4 IS NULL OR (-?3, ?4) > (-head_priority, head_sequence), head_sequence, ?4)
WHERE id = ?1

-- name: lower_lanes
-- Ready tasks went: the head is whatever is best now.
UPDATE sitq_lane SET (head_priority, head_sequence) = (
    SELECT t.priority, t.sequence FROM sitq_task AS t
    WHERE t.lane = sitq_lane.id AND t.stage = 2 ORDER BY t.priority DESC, t.sequence LIMIT 1
)
WHERE id IN (SELECT value FROM json_each(?1))

-- name: free_keys
UPDATE sitq_key SET running = running - ?2 WHERE key IN (SELECT value FROM json_each(?1))

-- name: queues_held
SELECT json_group_array(name) FROM sitq_queue
WHERE id IN (SELECT m.queue FROM json_each(?1) AS j JOIN sitq_mark AS m ON m.key = j.value)

-- name: mark_keys
UPDATE sitq_mark SET at = 0 WHERE key IN (SELECT value FROM json_each(?1)) AND at > 0

-- name: edges_over
-- Of tasks that have ended: they are only there to be found by their parents.
UPDATE sitq_edge SET done = 1 WHERE child IN (SELECT value FROM json_each(?1))

-- name: edges_of_parents
SELECT json_group_array(json_array(parent, child, effects)) FROM (
    SELECT e.parent, e.child, e.effects FROM json_each(?1) AS j CROSS JOIN sitq_edge AS e ON e.parent = j.value
    AND e.done = 0 ORDER BY e.child
)

-- name: read_uniques
SELECT json_group_array(json_array(u.key, u.task)) FROM json_each(?1) AS j CROSS JOIN sitq_unique AS u ON u.key = j.value

-- name: drop_uniques
-- Of deleted tasks: [key, id].
DELETE FROM sitq_unique WHERE (key, task) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))

-- name: waiting_in
SELECT q.id, (SELECT ifnull(sum(t.tasks), 0) FROM sitq_tally AS t WHERE t.queue = q.id AND t.state IN (0, 1))
FROM sitq_queue AS q WHERE q.name = ?1

-- name: store_limits
-- Answers with the keys for which the figures are new: they may hold lanes by others.
INSERT INTO sitq_key (key, slots, rate, per, burst) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET slots = excluded.slots, rate = excluded.rate, per = excluded.per, burst = excluded.burst
WHERE slots IS NOT excluded.slots OR rate IS NOT excluded.rate OR per <> excluded.per OR burst <> excluded.burst
RETURNING key

-- name: freeze_key
INSERT INTO sitq_key (key, per, burst, frozen) VALUES (?1, 1000000, 1, ?2)
ON CONFLICT DO UPDATE SET frozen = max(frozen, excluded.frozen)

-- name: has_children
SELECT EXISTS (SELECT 1 FROM sitq_edge WHERE parent = ?1 AND done = 0)

-- name: delete_edges_of_parent
DELETE FROM sitq_edge WHERE parent = ?1

-- name: has_table
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1

-- name: get_version
SELECT value FROM sitq_meta WHERE key = 'schema'

-- name: set_version
INSERT OR REPLACE INTO sitq_meta (key, value) VALUES ('schema', ?1)

-- name: load_ballast
INSERT OR REPLACE INTO sitq_ballast (number, room) VALUES (1, zeroblob(?1))

-- name: drop_ballast
DELETE FROM sitq_ballast

-- name: has_ballast
SELECT EXISTS (SELECT 1 FROM sitq_ballast)

-- name: get_cell
SELECT value, until FROM sitq_cell WHERE key = ?1

-- name: set_cell
INSERT OR REPLACE INTO sitq_cell (key, value, until) VALUES (?1, ?2, ?3)

-- name: drop_cell
DELETE FROM sitq_cell WHERE key = ?1

-- name: drop_old_cells
DELETE FROM sitq_cell WHERE until IS NOT NULL AND until <= ?1

-- name: next_number
INSERT INTO sitq_topic (topic, number) VALUES (?1, ?2)
ON CONFLICT DO UPDATE SET number = number + excluded.number RETURNING number

-- name: insert_event
INSERT INTO sitq_event (topic, number, at, data) VALUES (?, ?, ?, ?)

-- name: drop_events
DELETE FROM sitq_event WHERE topic = ?1 AND number <= ?2

-- name: renewable
SELECT json_group_array(json_array(t.sequence, t.id, t.token, t.stop))
FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.id = j.value ->> 0 AND t.token = j.value ->> 1 AND t.stage = 3

-- name: renew
UPDATE sitq_task SET lease_until = ?2 WHERE sequence IN (SELECT value FROM json_each(?1))

-- name: overdue_anywhere
SELECT json_group_array(sequence) FROM (
    SELECT t.sequence FROM sitq_queue AS q CROSS JOIN sitq_task AS t
        ON t.queue = q.id AND t.expire_at IS NOT NULL AND t.expire_at <= ?1
    ORDER BY q.id, t.expire_at, t.sequence LIMIT ?2
)

-- name: purgeable
-- Past their time, and neither depended on nor the ones behind a unique key's window.
SELECT json_group_array(sequence) FROM (
    SELECT t.sequence FROM sitq_task AS t
    WHERE t.keep_until IS NOT NULL AND t.keep_until <= ?1
        AND NOT EXISTS (SELECT 1 FROM sitq_edge AS e WHERE e.parent = t.sequence AND e.done = 0)
        AND (t.wants IS NULL OR substr(t.wants, 1, 1) <> 'x'
            OR t.created + CAST(substr(t.wants, 2) AS INTEGER) <= ?1
            OR NOT EXISTS (SELECT 1 FROM sitq_unique AS u
                WHERE u.key = substr(t.wants, instr(t.wants, ':') + 1) AND u.task = t.id))
    ORDER BY t.keep_until, t.sequence LIMIT ?2
)

-- name: resting_queues
SELECT json_group_array(q.id) FROM sitq_queue AS q
WHERE (q.served <> 0 OR q.turn <> 0 OR EXISTS (SELECT 1 FROM sitq_tenant AS t WHERE t.queue = q.id))
    AND NOT EXISTS (SELECT 1 FROM sitq_tally AS c WHERE c.queue = q.id AND c.state <= 3 AND c.tasks > 0)

-- name: rest_queues
UPDATE sitq_queue SET served = 0, turn = 0 WHERE id IN (SELECT value FROM json_each(?1))

-- name: rest_tenants
DELETE FROM sitq_tenant WHERE queue IN (SELECT value FROM json_each(?1))

-- name: rest_lanes
UPDATE sitq_lane SET turn = 0 WHERE turn > 0 AND queue IN (SELECT value FROM json_each(?1))

-- name: drop_lanes
DELETE FROM sitq_lane WHERE id IN (SELECT id FROM sitq_lane WHERE tasks = 0 LIMIT ?1) RETURNING 1

-- name: drop_lane_keys
DELETE FROM sitq_lane_key WHERE NOT EXISTS (SELECT 1 FROM sitq_lane AS l WHERE l.id = lane)

-- name: drop_keys
DELETE FROM sitq_key WHERE running = 0 AND arrival <= ?1 AND frozen <= ?1
    AND NOT EXISTS (SELECT 1 FROM sitq_lane_key AS k WHERE k.key = sitq_key.key)

-- name: drop_kinds
DELETE FROM sitq_kind WHERE NOT EXISTS (SELECT 1 FROM sitq_lane AS l WHERE l.kind = sitq_kind.id)

-- name: drop_queues
DELETE FROM sitq_queue WHERE NOT EXISTS (SELECT 1 FROM sitq_kind AS k WHERE k.queue = sitq_queue.id)

-- name: drop_counts
DELETE FROM sitq_tally WHERE queue NOT IN (SELECT id FROM sitq_queue)

-- name: drop_marks_of_queues
DELETE FROM sitq_mark WHERE queue NOT IN (SELECT id FROM sitq_queue)

-- name: drop_claims
DELETE FROM sitq_claim WHERE number IN (
    SELECT c.number FROM sitq_claim AS c
    WHERE c.at < ?1 AND c.id NOT IN (SELECT t.token FROM sitq_task AS t WHERE t.stage = 3)
    ORDER BY c.number LIMIT ?2
)

-- name: limited_queues
-- Which of the queues have a limit of their own.
SELECT json_group_array(q.name) FROM json_each(?1) AS j CROSS JOIN sitq_queue AS q ON q.id = j.value
WHERE EXISTS (SELECT 1 FROM sitq_cell AS c WHERE c.key = 'limit/queue/' || q.name)
