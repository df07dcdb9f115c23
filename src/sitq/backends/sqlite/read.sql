-- Statements that read, as one row of JSON for any number of tasks.

-- name: rows_by_id
SELECT json_group_array(json_array(
    t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.delay, t.created, t.ttl, t.deadline,
    t.expires, t.expire_at, t.attempt, t.failures, t.crashes, t.alone, t.token, t.owner, t.lease_until, t.stop,
    t.started, t.finished, t.keep_until, t.keep, t.keep_failed, t.stride, t.reply, t.wants, t.parents, t.unarmed,
    t.milestone, t.ends,
    hex(t.history)))
FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.id = j.value

-- name: rows_by_sequence
SELECT json_group_array(json_array(
    t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.delay, t.created, t.ttl, t.deadline,
    t.expires, t.expire_at, t.attempt, t.failures, t.crashes, t.alone, t.token, t.owner, t.lease_until, t.stop,
    t.started, t.finished, t.keep_until, t.keep, t.keep_failed, t.stride, t.reply, t.wants, t.parents, t.unarmed,
    t.milestone, t.ends,
    hex(t.history)))
FROM json_each(?1) AS j CROSS JOIN sitq_task AS t ON t.sequence = j.value

-- name: briefs_by_id
-- What there is to tell of most tasks, their bodies as one blob and their results as another one. The number before
-- the last is the length of the task's part of the bodies, null if the task is to be read whole.
SELECT json_group_array(json_array(
    sequence, id, queue, lane, stage, priority, due, created, attempt, token, started, finished, keep_until, ends,
    length(CAST(body AS BLOB)), length(CAST(result AS BLOB)))),
    CAST(group_concat(body, '') AS BLOB), CAST(group_concat(result, '') AS BLOB)
FROM (
    SELECT t.*, iif(t.is_brief, b.body, NULL) AS body, iif(t.is_brief, t.outcome, NULL) AS result FROM (
        SELECT s.sequence, s.id, s.queue, s.lane, s.stage, s.priority, s.due, s.created, s.attempt, s.token, s.started, s.finished,
            s.keep_until, s.ends, s.result AS outcome,
            coalesce(s.delay, s.expires, s.failures, s.crashes, s.alone, s.owner, s.lease_until, s.stop, s.history) IS NULL
                AND NOT EXISTS (SELECT 1 FROM sitq_step AS p WHERE p.task = s.sequence) AS is_brief
        FROM json_each(?1) AS j CROSS JOIN sitq_task AS s ON s.id = j.value
    ) AS t LEFT JOIN sitq_body AS b ON b.sequence = t.sequence
)

-- name: reads_by_sequence
SELECT json_group_array(json_array(json_array(
    t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.delay, t.created, t.ttl, t.deadline,
    t.expires, t.expire_at, t.attempt, t.failures, t.crashes, t.alone, t.token, t.owner, t.lease_until, t.stop,
    t.started, t.finished, t.keep_until, t.keep, t.keep_failed, t.stride, t.reply, t.wants, t.parents, t.unarmed,
    t.milestone, t.ends,
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
SELECT json_group_array(json_array(sequence, stage)) FROM (
    SELECT sequence, stage FROM sitq_task WHERE sequence > ?1 ORDER BY sequence LIMIT ?2
)

-- name: scan_down
SELECT json_group_array(json_array(sequence, stage)) FROM (
    SELECT sequence, stage FROM sitq_task WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?2
)

-- name: scan_running
-- The same for a scan of running tasks alone, of which there are few however many have ended.
SELECT json_group_array(json_array(sequence, stage)) FROM (
    SELECT sequence, stage FROM sitq_task WHERE stage = 3 AND sequence > ?1 ORDER BY sequence LIMIT ?2
)

-- name: scan_running_down
SELECT json_group_array(json_array(sequence, stage)) FROM (
    SELECT sequence, stage FROM sitq_task WHERE stage = 3 AND sequence < ?1 ORDER BY sequence DESC LIMIT ?2
)

-- name: scan_children
-- The same for a scan of those that depend on a task.
SELECT json_group_array(json_array(sequence, stage)) FROM (
    SELECT t.sequence, t.stage FROM sitq_task AS p CROSS JOIN sitq_edge AS e ON e.parent = p.sequence
    CROSS JOIN sitq_task AS t ON t.sequence = e.child
    WHERE p.id = ?3 AND e.child > ?1 ORDER BY e.child LIMIT ?2
)

-- name: scan_children_down
SELECT json_group_array(json_array(sequence, stage)) FROM (
    SELECT t.sequence, t.stage FROM sitq_task AS p CROSS JOIN sitq_edge AS e ON e.parent = p.sequence
    CROSS JOIN sitq_task AS t ON t.sequence = e.child
    WHERE p.id = ?3 AND e.child < ?1 ORDER BY e.child DESC LIMIT ?2
)

-- name: queue_names
SELECT json_group_array(name) FROM sitq_queue
