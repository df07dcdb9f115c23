-- Statements that read, as one row of JSON for any number of tasks.

-- name: rows_by_id
SELECT json_group_array(json_array(
    t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.delay, t.created, t.ttl, t.deadline,
    t.expires, t.expire_at, t.attempt, t.failures, t.crashes, t.alone, t.token, t.owner, t.lease_until, t.stop,
    t.started, t.finished, t.keep_until, t.keep, t.keep_failed, t.stride, t.reply, t.wants, t.parents, t.unarmed,
    hex(t.history)))
FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.id = j.value

-- name: rows_by_sequence
SELECT json_group_array(json_array(
    t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.delay, t.created, t.ttl, t.deadline,
    t.expires, t.expire_at, t.attempt, t.failures, t.crashes, t.alone, t.token, t.owner, t.lease_until, t.stop,
    t.started, t.finished, t.keep_until, t.keep, t.keep_failed, t.stride, t.reply, t.wants, t.parents, t.unarmed,
    hex(t.history)))
FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.sequence = j.value

-- name: sequences_of
SELECT json_group_array(t.sequence) FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.id = j.value

-- name: reads_by_sequence
SELECT json_group_array(json_array(json_array(
    t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.delay, t.created, t.ttl, t.deadline,
    t.expires, t.expire_at, t.attempt, t.failures, t.crashes, t.alone, t.token, t.owner, t.lease_until, t.stop,
    t.started, t.finished, t.keep_until, t.keep, t.keep_failed, t.stride, t.reply, t.wants, t.parents, t.unarmed,
    hex(t.history)),
    (SELECT json_group_object(s.name, hex(s.value)) FROM sitq_step AS s WHERE s.task = t.sequence),
    iif(t.result IS NULL, NULL, hex(t.result)),
    hex(b.body)))
FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.sequence = j.value
LEFT JOIN sitq_body AS b ON b.sequence = t.sequence

-- name: tally
SELECT json_group_array(json_array(q.name, t.state, t.tasks))
FROM sitq_tally AS t JOIN sitq_queue AS q ON q.id = t.queue WHERE t.tasks <> 0

-- name: cells
SELECT json_group_array(json_array(key, hex(value), until)) FROM (
    SELECT key, value, until FROM sitq_cell
    WHERE key >= ?1 AND (?2 IS NULL OR key < ?2) AND (until IS NULL OR until > ?3) ORDER BY key
)

-- name: events
SELECT json_group_array(json_array(number, at, hex(data))) FROM (
    SELECT number, at, data FROM sitq_event WHERE topic = ?1 AND number > ?2 ORDER BY number LIMIT ?3
)

-- name: scan
SELECT json_group_array(sequence) FROM (
    SELECT sequence FROM sitq_task WHERE sequence > ?1 ORDER BY sequence LIMIT ?2
)

-- name: scan_running
-- The same for a scan of running tasks alone, of which there are few however many have ended.
SELECT json_group_array(sequence) FROM (
    SELECT sequence FROM sitq_task WHERE stage = 3 AND sequence > ?1 ORDER BY sequence LIMIT ?2
)

-- name: queue_names
SELECT json_group_array(name) FROM sitq_queue
