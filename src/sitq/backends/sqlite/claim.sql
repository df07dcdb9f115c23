-- Statements of a claim.

-- name: look
-- All that a claim must know before it starts: what it has claimed before, the first lease's end, the pauses,
-- and of each wanted queue its turns, first due and first overdue task, first mark, and kinds with open lanes.
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
        (SELECT json_group_array(json_array(k.id, k.name, k.python)) FROM sitq_kind AS k
            WHERE k.queue = q.id AND EXISTS (SELECT 1 FROM sitq_lane AS l
                WHERE l.kind = k.id AND l.head_sequence IS NOT NULL AND l.held_by IS NULL))))
    FROM json_each(?1) AS j CROSS JOIN sitq_queue AS q ON q.name = j.value)
)

-- name: lapsed
SELECT json_group_array(sequence) FROM (
    SELECT sequence FROM sitq_task WHERE stage = 3 AND lease_until <= ?1 ORDER BY lease_until, sequence LIMIT ?2
)

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
-- The first ready tasks of each lane.
SELECT json_group_array(json_array(t.lane, t.priority, t.sequence, t.stride))
FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.sequence IN (
    SELECT r.sequence FROM sitq_task AS r WHERE r.lane = j.value AND r.stage = 2
    ORDER BY r.priority DESC, r.sequence LIMIT ?2
)

-- name: fresh_by_sequence
-- Of ready tasks at their first attempt that have nothing unusual, all that their records need.
SELECT json_group_array(json_array(t.sequence, t.id, t.queue, t.lane, t.priority, t.due, t.created, iif(
    t.attempt = 0 AND coalesce(
        t.wants, t.parents, t.ttl, t.deadline, t.delay, t.keep, t.keep_failed, t.failures, t.crashes, t.alone,
        t.history
    ) IS NULL, hex(b.body), NULL)))
FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.sequence = j.value
LEFT JOIN sitq_body AS b ON b.sequence = t.sequence

-- name: running_unchanged
-- Which of the tasks still run under the token as they were claimed: not asked to stop, nothing noted.
SELECT json_group_array(t.sequence) FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.sequence = j.value
WHERE t.stage = 3 AND t.token = ?2 AND t.stop IS NULL AND t.history IS NULL

-- name: ready_of_lane
SELECT json_group_array(sequence) FROM (
    SELECT sequence FROM sitq_task WHERE lane = ?1 AND stage = 2 ORDER BY priority DESC, sequence LIMIT ?2
)

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
SELECT json_group_array(json_array(k.key, k.slots, k.rate, k.per, k.burst, k.arrival, k.frozen, k.running))
FROM json_each(?1) AS j CROSS JOIN sitq_key AS k ON k.key = j.value

-- name: start_keys
UPDATE sitq_key SET running = j.value ->> 1, arrival = j.value ->> 2
FROM json_each(?1) AS j WHERE sitq_key.key = j.value ->> 0

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
