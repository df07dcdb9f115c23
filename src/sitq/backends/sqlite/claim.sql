-- Statements of a claim.

-- name: look
-- All that a claim must know before it starts: what it has claimed before, the first lease's end, the pauses,
-- and of each wanted queue its turns, first due and first overdue task, first mark, whether it has tenants, kinds
-- with open lanes, two of these lanes, and the limit of its own.
SELECT json_array(
    (SELECT json(tasks) FROM sitq_claim WHERE id = ?2),
    (SELECT lease_until FROM sitq_task WHERE stage = 3 ORDER BY lease_until LIMIT 1),
    (SELECT json_group_array(json_array(substr(key, 7), until)) FROM sitq_cell
        WHERE key >= 'pause/' AND key < 'pause0' AND (until IS NULL OR until > ?3)),
    (SELECT json_group_array(json_array(q.id, q.name, q.served, q.turn,
        (SELECT t.due FROM sitq_task AS t WHERE t.queue = q.id AND t.stage = 1 ORDER BY t.due LIMIT 1),
        (SELECT t.expire_at FROM sitq_task AS t
            WHERE t.queue = q.id AND t.expire_at IS NOT NULL ORDER BY t.expire_at LIMIT 1),
        (SELECT m.at FROM sitq_mark AS m WHERE m.queue = q.id ORDER BY m.at LIMIT 1),
        json(iif(EXISTS (SELECT 1 FROM sitq_kind AS k CROSS JOIN sitq_lane AS l
            ON l.kind = k.id AND ifnull('t' || l.tenant, '') > '' WHERE k.queue = q.id), 'true', 'false')),
        (SELECT json_group_array(json_array(k.id, k.name, k.python)) FROM sitq_kind AS k
            WHERE k.queue = q.id AND EXISTS (SELECT 1 FROM sitq_lane AS l
                WHERE l.kind = k.id AND l.head_sequence IS NOT NULL AND l.held_by IS NULL)),
        (SELECT json_group_array(json_array(id, tenant, keys)) FROM (
            SELECT l.id, l.tenant, l.keys FROM sitq_kind AS k CROSS JOIN sitq_lane AS l
                ON l.kind = k.id AND l.head_sequence IS NOT NULL AND l.held_by IS NULL
            WHERE k.queue = q.id LIMIT 2)),
        json((SELECT json_array(hex(c.value),
                (SELECT k.arrival FROM sitq_key AS k WHERE k.key = char(30) || q.name),
                (SELECT n.tasks FROM sitq_tally AS n WHERE n.queue = q.id AND n.state = 3))
            FROM sitq_cell AS c WHERE c.key = 'limit/queue/' || q.name AND (c.until IS NULL OR c.until > ?3)))))
    FROM json_each(?1) AS j CROSS JOIN sitq_queue AS q ON q.name = j.value)
)

-- name: lapsed
SELECT json_group_array(sequence) FROM (
    SELECT sequence FROM sitq_task WHERE stage = 3 AND lease_until <= ?1 ORDER BY lease_until, sequence LIMIT ?2
)

-- name: leaseless
-- A running task without a lease, which nothing writes, would be nobody's for ever, and would hide the others.
UPDATE sitq_task SET lease_until = 0 WHERE stage = 3 AND lease_until IS NULL

-- name: overdue
SELECT json_group_array(sequence) FROM (
    SELECT sequence FROM sitq_task WHERE queue = ?1 AND expire_at IS NOT NULL AND expire_at <= ?2
    ORDER BY expire_at, sequence LIMIT ?3
)

-- name: due
SELECT json_group_array(sequence) FROM (
    SELECT sequence FROM sitq_task WHERE queue = ?1 AND stage = 1 AND due <= ?2 ORDER BY due LIMIT ?3
)

-- name: promote
UPDATE sitq_task SET stage = 2 WHERE sequence IN (SELECT value FROM json_each(?1))

-- name: promoted
SELECT json_group_array(json_array(lane, priority, sequence)) FROM sitq_task
WHERE sequence IN (SELECT value FROM json_each(?1))

-- name: bump_turns
-- A turn below the one that the queue last served counts as that one.
UPDATE sitq_lane SET turn = ?2
WHERE kind IN (SELECT value FROM json_each(?1)) AND turn < ?2 AND head_sequence IS NOT NULL AND held_by IS NULL

-- name: open_lanes
-- The best open lanes of each kind: those without a tenant, then those with one by their turn.
SELECT json_group_array(json_array(l.id, l.tenant, l.keys, l.turn, l.head_priority, l.head_sequence, l.kind))
FROM json_each(?1) AS j CROSS JOIN sitq_lane AS l ON l.id IN (
    SELECT id FROM (SELECT o.id FROM sitq_lane AS o
        WHERE o.kind = j.value AND o.turn IS NULL AND o.head_sequence IS NOT NULL AND o.held_by IS NULL
        ORDER BY o.head_priority DESC, o.head_sequence LIMIT ?2)
    UNION ALL
    SELECT id FROM (SELECT o.id FROM sitq_lane AS o
        WHERE o.kind = j.value AND o.turn >= 0 AND o.head_sequence IS NOT NULL AND o.held_by IS NULL
        ORDER BY o.turn, o.head_priority DESC, o.head_sequence LIMIT ?2)
)

-- name: ready_items
-- The first ready tasks of each lane, in order. Without tenants (?3) their index has all of it.
SELECT json_group_array(json_array(j.value, (
    SELECT json_group_array(json_array(-bounded.priority, bounded.sequence, bounded.stride)) FROM (
        SELECT priority, sequence, iif(?3, stride, NULL) AS stride FROM sitq_task
        WHERE lane = j.value AND stage = 2 ORDER BY priority DESC, sequence LIMIT ?2
    ) AS bounded
))) FROM json_each(?1) AS j

-- name: fresh_by_sequence
-- What is read of ready tasks first, and their bodies as one blob: the number before the last is the length of
-- the task's part of it, null if the task is to be read whole.
SELECT json_group_array(json_array(sequence, id, queue, lane, priority, due, created, length(CAST(body AS BLOB)), ends)),
    CAST(group_concat(body, '') AS BLOB)
FROM (SELECT f.* FROM json_each(?1) AS j CROSS JOIN sitq_fresh AS f ON f.sequence = j.value)

-- name: running_unchanged
-- Which of the tasks still run under the token as they were claimed: not asked to stop, nothing noted. Then the
-- open edges of them all, with the children.
SELECT (
    SELECT json_group_array(t.sequence) FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.sequence = j.value
    WHERE t.stage = 3 AND t.token = ?2 AND t.stop IS NULL AND t.history IS NULL
), (
    SELECT json_group_array(json_array(e.parent, e.effects, json_array(
        c.sequence, c.queue, c.lane, c.stage, c.priority, c.due, c.parents, c.unarmed, c.ends,
        json(iif(coalesce(c.delay, c.ttl, c.deadline, c.milestone, c.unarmed) IS NULL, 'true', 'false')))))
    FROM json_each(?1) AS j CROSS JOIN sitq_edge AS e ON e.parent = j.value AND e.done = 0
    CROSS JOIN sitq_task AS c ON c.sequence = e.child
)

-- name: fresh_of_lane
-- The same of the first ready tasks of a lane.
SELECT json_group_array(json_array(sequence, id, queue, lane, priority, due, created, length(CAST(body AS BLOB)), ends)),
    CAST(group_concat(body, '') AS BLOB)
FROM (SELECT * FROM sitq_fresh WHERE lane = ?1 AND stage = 2 ORDER BY priority DESC, sequence LIMIT ?2)

-- name: store_queue_turns
UPDATE sitq_queue SET served = ?2, turn = ?3 WHERE id = ?1

-- name: store_tenant_turns
INSERT INTO sitq_tenant (queue, key, turn)
SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2) WHERE TRUE
ON CONFLICT DO UPDATE SET turn = excluded.turn

-- name: store_lane_turns
UPDATE sitq_lane SET turn = j.value ->> 1
FROM json_each(?2) AS j WHERE tenant = j.value ->> 0 AND queue = ?1

-- name: read_tenants
SELECT json_group_array(json_array(t.key, t.turn)) FROM json_each(?2) AS j
CROSS JOIN sitq_tenant AS t ON t.queue = ?1 AND t.key = j.value

-- name: read_keys
SELECT json_group_array(json_array(json_array(k.key, k.slots, k.rate, k.per, k.burst), k.arrival, k.frozen, k.running))
FROM json_each(?1) AS j CROSS JOIN sitq_key AS k ON k.key = j.value

-- name: start_keys
-- Of keys that are there: an upsert of rows takes a third of the time of an update from JSON (SQLite 3.40).
INSERT INTO sitq_key (key, per, burst, running, arrival) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET running = excluded.running, arrival = excluded.arrival

-- name: hold_lanes
UPDATE sitq_lane SET held_by = j.value ->> 1 FROM json_each(?1) AS j WHERE sitq_lane.id = j.value ->> 0

-- name: set_marks
INSERT INTO sitq_mark (queue, key, at)
SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2) WHERE TRUE
ON CONFLICT DO UPDATE SET at = excluded.at

-- name: marks_due
SELECT json_group_array(key) FROM (SELECT key FROM sitq_mark WHERE queue = ?1 AND at <= ?2 ORDER BY at LIMIT ?3)

-- name: drop_marks
DELETE FROM sitq_mark WHERE queue = ?1 AND key IN (SELECT value FROM json_each(?2))

-- name: reopen_lanes
-- As many of the best lanes of each kind of the queue that the key holds as it may have capacity for.
UPDATE sitq_lane SET held_by = NULL WHERE id IN (
    SELECT l.id FROM sitq_kind AS k CROSS JOIN sitq_lane AS l ON l.id IN (
        SELECT id FROM (SELECT o.id FROM sitq_lane AS o
            WHERE o.held_by = ?2 AND o.kind = k.id AND o.turn IS NULL AND o.head_sequence IS NOT NULL
            ORDER BY o.head_priority DESC, o.head_sequence LIMIT ?3)
        UNION ALL
        SELECT id FROM (SELECT o.id FROM sitq_lane AS o
            WHERE o.held_by = ?2 AND o.kind = k.id AND o.turn >= 0 AND o.head_sequence IS NOT NULL
            ORDER BY o.turn, o.head_priority DESC, o.head_sequence LIMIT ?3)
    ) WHERE k.queue = ?1
)

-- name: holding
-- Which of the keys hold lanes of the queue.
SELECT json_group_array(j.value) FROM json_each(?2) AS j WHERE EXISTS (
    SELECT 1 FROM sitq_kind AS k CROSS JOIN sitq_lane AS l
    ON l.held_by = j.value AND l.kind = k.id AND l.head_sequence IS NOT NULL WHERE k.queue = ?1)

-- name: remember_claim
INSERT OR REPLACE INTO sitq_claim (id, at, tasks) VALUES (?1, ?2, ?3)

-- name: marks_of
SELECT json_group_array(m.key) FROM json_each(?2) AS j CROSS JOIN sitq_mark AS m ON m.key = j.value AND m.queue = ?1

-- name: bump_held
UPDATE sitq_lane SET turn = ?3
WHERE held_by = ?2 AND kind IN (SELECT id FROM sitq_kind WHERE queue = ?1) AND turn < ?3 AND head_sequence IS NOT NULL

-- name: start_own
-- The starts of a queue that has a limit of its own are counted by a key that no task can name.
INSERT INTO sitq_key (key, per, burst, arrival) VALUES (char(30) || ?1, 1000000, 1, ?2)
ON CONFLICT DO UPDATE SET arrival = excluded.arrival
