-- Statements that read, as one row of JSON for any number of tasks. What is read to be changed is locked, so that a
-- renewal, which waits for nothing else, has either been before or comes after.

-- name: rows_by_id
SELECT coalesce(json_agg(r.row), '[]')::text FROM (
    SELECT json_build_array(
        t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.delay, t.created, t.ttl, t.deadline,
        t.expires, t.expire_at, t.attempt, t.failures, t.crashes, t.alone, t.token, t.owner, t.lease_until, t.stop,
        t.started, t.finished, t.keep_until, t.keep, t.keep_failed, t.stride, t.reply, t.wants, t.parents, t.unarmed,
        t.milestone, t.ends, encode(t.history, 'hex')) AS row
    FROM sitq.task AS t WHERE t.id = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)))
    ORDER BY t.sequence + 0 FOR UPDATE
) AS r

-- name: rows_by_sequence
SELECT coalesce(json_agg(r.row), '[]')::text FROM (
    SELECT json_build_array(
        t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.delay, t.created, t.ttl, t.deadline,
        t.expires, t.expire_at, t.attempt, t.failures, t.crashes, t.alone, t.token, t.owner, t.lease_until, t.stop,
        t.started, t.finished, t.keep_until, t.keep, t.keep_failed, t.stride, t.reply, t.wants, t.parents, t.unarmed,
        t.milestone, t.ends, encode(t.history, 'hex')) AS row
    FROM sitq.task AS t WHERE t.sequence = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))
    ORDER BY t.sequence FOR UPDATE
) AS r

-- name: briefs_by_id
-- What there is to tell of most tasks, their bodies as one and their results as another one. The number before the
-- last is the length of the task's part of the bodies, null if the task is to be read whole.
SELECT coalesce(json_agg(json_build_array(
        t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.created, t.attempt, t.token, t.started,
        t.finished, t.keep_until, t.ends, CASE WHEN t.brief THEN octet_length(t.body) END,
        CASE WHEN t.brief THEN octet_length(t.result) END) ORDER BY t.sequence), '[]')::text,
    string_agg(CASE WHEN t.brief THEN t.body END, ''::bytea ORDER BY t.sequence),
    string_agg(CASE WHEN t.brief THEN t.result END, ''::bytea ORDER BY t.sequence)
FROM (
    SELECT s.*, num_nonnulls(s.delay, s.expires, s.failures, s.crashes, s.alone, s.owner, s.lease_until, s.stop,
        s.history) = 0 AND NOT EXISTS (SELECT 1 FROM sitq.step AS p WHERE p.task = s.sequence) AS brief
    FROM sitq.task AS s WHERE s.id = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)))
) AS t

-- name: reads_by_sequence
SELECT coalesce(json_agg(json_build_array(
    json_build_array(
        t.sequence, t.id, t.queue, t.lane, t.stage, t.priority, t.due, t.delay, t.created, t.ttl, t.deadline,
        t.expires, t.expire_at, t.attempt, t.failures, t.crashes, t.alone, t.token, t.owner, t.lease_until, t.stop,
        t.started, t.finished, t.keep_until, t.keep, t.keep_failed, t.stride, t.reply, t.wants, t.parents, t.unarmed,
        t.milestone, t.ends, encode(t.history, 'hex')),
    (SELECT coalesce(json_object_agg(s.name, encode(s.value, 'hex')), '{}') FROM sitq.step AS s
        WHERE s.task = t.sequence),
    encode(t.result, 'hex'),
    encode(t.body, 'hex')) ORDER BY j.at), '[]')::text
FROM jsonb_array_elements_text($1::jsonb) WITH ORDINALITY AS j(sequence, at)
JOIN sitq.task AS t ON t.sequence = ANY (ARRAY[j.sequence::bigint])

-- name: tally
SELECT coalesce(json_agg(json_build_array(t.name, t.state, t.tasks)), '[]')::text FROM (
    SELECT q.name, t.state, sum(t.tasks)::bigint AS tasks FROM sitq.tally AS t JOIN sitq.queue AS q ON q.id = t.queue
    GROUP BY q.name, t.state HAVING sum(t.tasks) <> 0
) AS t

-- name: cells
SELECT coalesce(json_agg(json_build_array(key, encode(value, 'hex'), until) ORDER BY key), '[]')::text FROM sitq.cell
WHERE key >= $1::text AND ($2::text IS NULL OR key < $2::text) AND (until IS NULL OR until > $3::bigint)

-- name: events
SELECT coalesce(json_agg(json_build_array(number, at, encode(data, 'hex'))), '[]')::text FROM (
    SELECT number, at, data FROM sitq.event WHERE topic = $1::text AND number > $2::bigint
    ORDER BY number LIMIT $3::bigint
) AS e

-- name: scan
SELECT coalesce(json_agg(json_build_array(sequence, stage)), '[]')::text FROM (
    SELECT sequence, stage FROM sitq.task WHERE sequence > $1::bigint ORDER BY sequence LIMIT $2::bigint
) AS t

-- name: scan_down
SELECT coalesce(json_agg(json_build_array(sequence, stage)), '[]')::text FROM (
    SELECT sequence, stage FROM sitq.task WHERE sequence < $1::bigint ORDER BY sequence DESC LIMIT $2::bigint
) AS t

-- name: scan_running
-- The same for a scan of running tasks alone, of which there are few however many have ended.
SELECT coalesce(json_agg(json_build_array(sequence, stage)), '[]')::text FROM (
    SELECT sequence, stage FROM sitq.task WHERE stage = 3 AND sequence > $1::bigint ORDER BY sequence LIMIT $2::bigint
) AS t

-- name: scan_running_down
SELECT coalesce(json_agg(json_build_array(sequence, stage)), '[]')::text FROM (
    SELECT sequence, stage FROM sitq.task WHERE stage = 3 AND sequence < $1::bigint
    ORDER BY sequence DESC LIMIT $2::bigint
) AS t

-- name: scan_children
-- The same for a scan of those that depend on a task.
SELECT coalesce(json_agg(json_build_array(sequence, stage)), '[]')::text FROM (
    SELECT t.sequence, t.stage FROM sitq.task AS p JOIN sitq.edge AS e ON e.parent = ANY (ARRAY[p.sequence])
    JOIN sitq.task AS t ON t.sequence = ANY (ARRAY[e.child])
    WHERE p.id = $3::text AND e.child > $1::bigint ORDER BY e.child LIMIT $2::bigint
) AS t

-- name: scan_children_down
SELECT coalesce(json_agg(json_build_array(sequence, stage)), '[]')::text FROM (
    SELECT t.sequence, t.stage FROM sitq.task AS p JOIN sitq.edge AS e ON e.parent = ANY (ARRAY[p.sequence])
    JOIN sitq.task AS t ON t.sequence = ANY (ARRAY[e.child])
    WHERE p.id = $3::text AND e.child < $1::bigint ORDER BY e.child DESC LIMIT $2::bigint
) AS t
