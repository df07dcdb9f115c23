-- Statements of a claim that goes the long way.

-- name: look
-- All that a claim must know before it starts: what it has claimed before, the first lease's end, the pauses,
-- and of each wanted queue its turns, first due and first overdue task, first mark, whether it has tenants, kinds
-- with open lanes, two of these lanes, and the limit of its own.
SELECT json_build_array(
    (SELECT c.tasks::json FROM sitq.claim AS c WHERE c.id = $2::text),
    (SELECT t.lease_until FROM sitq.task AS t WHERE t.stage = 3 ORDER BY t.lease_until LIMIT 1),
    (SELECT coalesce(json_agg(json_build_array(substr(c.key, 7), c.until)), '[]') FROM sitq.cell AS c
        WHERE c.key >= 'pause/' AND c.key < 'pause0' AND (c.until IS NULL OR c.until > $3::bigint)),
    (SELECT coalesce(json_agg(json_build_array(q.id, q.name, q.served, q.turn,
        (SELECT t.due FROM sitq.task AS t WHERE t.queue = q.id AND t.stage = 1 ORDER BY t.due LIMIT 1),
        (SELECT t.expire_at FROM sitq.task AS t
            WHERE t.queue = q.id AND t.expire_at IS NOT NULL ORDER BY t.expire_at LIMIT 1),
        (SELECT m.at FROM sitq.mark AS m WHERE m.queue = q.id ORDER BY m.at LIMIT 1),
        EXISTS (SELECT 1 FROM sitq.lane AS l WHERE l.queue = ANY (ARRAY[q.id]) AND l.managed AND l.tenant IS NOT NULL),
        (SELECT coalesce(json_agg(json_build_array(k.id, k.name, k.python)), '[]') FROM sitq.kind AS k
            WHERE k.queue = ANY (ARRAY[q.id]) AND (
                EXISTS (SELECT 1 FROM sitq.lane AS l
                    WHERE l.kind = ANY (ARRAY[k.id]) AND l.head_sequence IS NOT NULL AND l.held_by IS NULL)
                OR EXISTS (SELECT 1 FROM sitq.lane AS l WHERE l.kind = ANY (ARRAY[k.id]) AND NOT l.managed
                    AND EXISTS (SELECT 1 FROM sitq.task AS t WHERE t.lane = l.id AND t.stage = 2 OFFSET 0)))),
        '[]'::json,
        (SELECT json_build_array(encode(c.value, 'hex'),
                (SELECT k.arrival FROM sitq.key AS k WHERE k.key = chr(30) || q.name),
                (SELECT sum(n.tasks)::bigint FROM sitq.tally AS n WHERE n.queue = q.id AND n.state = 3))
            FROM sitq.cell AS c
            WHERE c.key = 'limit/queue/' || q.name AND (c.until IS NULL OR c.until > $3::bigint))
    )), '[]')
    FROM jsonb_array_elements_text($1::jsonb) AS j(name) JOIN sitq.queue AS q ON q.name = ANY (ARRAY[j.name]))
)::text

-- name: lapsed
SELECT coalesce(json_agg(sequence), '[]')::text FROM (
    SELECT sequence FROM sitq.task WHERE stage = 3 AND lease_until <= $1::bigint
    ORDER BY lease_until, sequence LIMIT $2::bigint
) AS t

-- name: leaseless
-- A running task without a lease, which nothing writes, would be nobody's for ever, and would hide the others.
UPDATE sitq.task SET lease_until = 0 WHERE stage = 3 AND lease_until IS NULL

-- name: overdue
SELECT coalesce(json_agg(sequence), '[]')::text FROM (
    SELECT sequence FROM sitq.task WHERE queue = $1::bigint AND expire_at IS NOT NULL AND expire_at <= $2::bigint
    ORDER BY expire_at, sequence LIMIT $3::bigint
) AS t

-- name: due
SELECT coalesce(json_agg(sequence), '[]')::text FROM (
    SELECT sequence FROM sitq.task WHERE queue = $1::bigint AND stage = 1 AND due <= $2::bigint
    ORDER BY due LIMIT $3::bigint
) AS t

-- name: promote
UPDATE sitq.task SET stage = 2 WHERE sequence = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))

-- name: promoted
SELECT coalesce(json_agg(json_build_array(lane, priority, sequence)), '[]')::text FROM sitq.task
WHERE sequence = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))

-- name: bump_turns
-- A turn below the one that the queue last served counts as that one.
UPDATE sitq.lane SET turn = $2::bigint
WHERE kind = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))
    AND turn < $2::bigint AND head_sequence IS NOT NULL AND held_by IS NULL

-- name: bump_held
UPDATE sitq.lane SET turn = $3::bigint
WHERE held_by = $2::text AND kind = ANY (ARRAY(SELECT id FROM sitq.kind WHERE queue = $1::bigint))
    AND turn < $3::bigint AND head_sequence IS NOT NULL

-- name: open_lanes
-- The best open lanes of each kind: plain ones, others without a tenant, then those with one by their turn.
SELECT coalesce(json_agg(json_build_array(
    l.id, l.tenant, l.keys, l.turn, l.head_priority, l.head_sequence, l.kind)), '[]')::text
FROM jsonb_array_elements_text($1::jsonb) AS j(kind) CROSS JOIN LATERAL (
    (SELECT o.id, o.tenant, o.keys, o.turn, t.priority AS head_priority, t.sequence AS head_sequence, o.kind
        FROM sitq.lane AS o CROSS JOIN LATERAL (
            SELECT t.priority, t.sequence FROM sitq.task AS t WHERE t.lane = o.id AND t.stage = 2
            ORDER BY t.priority DESC, t.sequence LIMIT 1) AS t
        WHERE o.kind = j.kind::bigint AND NOT o.managed)
    UNION ALL
    (SELECT o.id, o.tenant, o.keys, o.turn, o.head_priority, o.head_sequence, o.kind FROM sitq.lane AS o
        WHERE o.kind = j.kind::bigint AND o.turn IS NULL AND o.head_sequence IS NOT NULL AND o.held_by IS NULL
        ORDER BY o.head_priority DESC, o.head_sequence LIMIT $2::bigint)
    UNION ALL
    (SELECT o.id, o.tenant, o.keys, o.turn, o.head_priority, o.head_sequence, o.kind FROM sitq.lane AS o
        WHERE o.kind = j.kind::bigint AND o.turn >= 0 AND o.head_sequence IS NOT NULL AND o.held_by IS NULL
        ORDER BY o.turn, o.head_priority DESC, o.head_sequence LIMIT $2::bigint)
) AS l

-- name: ready_items
-- The first ready tasks of each lane, in order, with their strides if there are tenants ($3).
SELECT coalesce(json_agg(json_build_array(j.lane::bigint, (
    SELECT coalesce(json_agg(json_build_array(-r.priority, r.sequence, CASE WHEN $3::boolean THEN r.stride END)
        ORDER BY r.priority DESC, r.sequence), '[]') FROM (
            SELECT priority, sequence, stride FROM sitq.task WHERE lane = j.lane::bigint AND stage = 2
            ORDER BY priority DESC, sequence LIMIT $2::bigint
    ) AS r))), '[]')::text
FROM jsonb_array_elements_text($1::jsonb) AS j(lane)

-- name: fresh_by_sequence
-- What is read of ready tasks first, and their bodies as one: the last number is the length of the task's part of it,
-- null if the task is to be read whole.
SELECT coalesce(json_agg(json_build_array(
        f.sequence, f.id, f.queue, f.lane, f.priority, f.due, f.created, f.size) ORDER BY f.at), '[]')::text,
    string_agg(CASE WHEN f.size IS NOT NULL THEN f.body END, ''::bytea ORDER BY f.at)
FROM (
    SELECT j.at, t.*, CASE WHEN t.attempt = 0 AND num_nonnulls(t.wants, t.parents, t.ttl, t.deadline, t.delay, t.keep,
        t.keep_failed, t.failures, t.crashes, t.alone, t.history) = 0 THEN octet_length(t.body) END AS size
    FROM jsonb_array_elements_text($1::jsonb) WITH ORDINALITY AS j(sequence, at)
    JOIN sitq.task AS t ON t.sequence = ANY (ARRAY[j.sequence::bigint])
) AS f

-- name: fresh_of_lane
-- The same of the first ready tasks of a lane.
SELECT coalesce(json_agg(json_build_array(
        f.sequence, f.id, f.queue, f.lane, f.priority, f.due, f.created, f.size) ORDER BY f.at), '[]')::text,
    string_agg(CASE WHEN f.size IS NOT NULL THEN f.body END, ''::bytea ORDER BY f.at)
FROM (
    SELECT row_number() OVER (ORDER BY t.priority DESC, t.sequence) AS at, t.*, CASE WHEN t.attempt = 0
        AND num_nonnulls(t.wants, t.parents, t.ttl, t.deadline, t.delay, t.keep, t.keep_failed, t.failures, t.crashes,
        t.alone, t.history) = 0 THEN octet_length(t.body) END AS size
    FROM (
        SELECT * FROM sitq.task WHERE lane = $1::bigint AND stage = 2 ORDER BY priority DESC, sequence LIMIT $2::bigint
    ) AS t
) AS f

-- name: running_unchanged
-- Which of the tasks still run under the token as they were claimed: not asked to stop, nothing noted. Then the
-- open edges of them all, with the children.
SELECT (
    SELECT coalesce(json_agg(t.sequence), '[]')::text FROM jsonb_array_elements_text($1::jsonb) AS j(sequence)
    JOIN sitq.task AS t ON t.sequence = ANY (ARRAY[j.sequence::bigint])
    WHERE t.stage + 0 = 3 AND t.token = $2::text AND t.stop IS NULL AND t.history IS NULL
), (
    SELECT coalesce(json_agg(json_build_array(e.parent, e.effects, json_build_array(
        c.sequence, c.queue, c.lane, c.stage, c.priority, c.due, c.parents, c.unarmed, c.ends,
        num_nonnulls(c.delay, c.ttl, c.deadline, c.milestone, c.unarmed) = 0))), '[]')::text
    FROM jsonb_array_elements_text($1::jsonb) AS j(sequence)
    JOIN sitq.edge AS e ON e.parent = ANY (ARRAY[j.sequence::bigint]) AND e.done = 0
    JOIN sitq.task AS c ON c.sequence = ANY (ARRAY[e.child])
)

-- name: store_queue_turns
UPDATE sitq.queue SET served = $2::bigint, turn = $3::bigint WHERE id = $1::bigint

-- name: store_tenant_turns
INSERT INTO sitq.tenant (queue, key, turn)
SELECT $1::bigint, j.value ->> 0, (j.value ->> 1)::bigint FROM jsonb_array_elements($2::jsonb) AS j(value)
ON CONFLICT (queue, key) DO UPDATE SET turn = excluded.turn

-- name: store_lane_turns
UPDATE sitq.lane SET turn = (j.value ->> 1)::bigint
FROM jsonb_array_elements($2::jsonb) AS j(value) WHERE tenant = ANY (ARRAY[j.value ->> 0]) AND queue = $1::bigint

-- name: read_keys
SELECT coalesce(json_agg(json_build_array(
    json_build_array(k.key, k.slots, k.rate, k.per, k.burst), k.arrival, k.frozen, k.running)), '[]')::text
FROM jsonb_array_elements_text($1::jsonb) AS j(key) JOIN sitq.key AS k ON k.key = ANY (ARRAY[j.key])

-- name: start_keys
INSERT INTO sitq.key AS k (key, per, burst, running, arrival)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
ON CONFLICT (key) DO UPDATE SET running = excluded.running, arrival = excluded.arrival

-- name: hold_lanes
UPDATE sitq.lane AS l SET held_by = j.value ->> 1
FROM jsonb_array_elements($1::jsonb) AS j(value) WHERE l.id = ANY (ARRAY[(j.value ->> 0)::bigint])

-- name: set_marks
INSERT INTO sitq.mark (queue, key, at)
SELECT $1::bigint, j.value ->> 0, (j.value ->> 1)::bigint FROM jsonb_array_elements($2::jsonb) AS j(value)
ON CONFLICT (key, queue) DO UPDATE SET at = excluded.at

-- name: marks_due
SELECT coalesce(json_agg(key), '[]')::text FROM (
    SELECT key FROM sitq.mark WHERE queue = $1::bigint AND at <= $2::bigint ORDER BY at LIMIT $3::bigint
) AS m

-- name: drop_marks
DELETE FROM sitq.mark WHERE queue = $1::bigint AND key = ANY (ARRAY(SELECT jsonb_array_elements_text($2::jsonb)))

-- name: reopen_lanes
-- As many of the best lanes of each kind of the queue that the key holds as it may have capacity for.
UPDATE sitq.lane SET held_by = NULL WHERE id = ANY (ARRAY(
    SELECT l.id FROM sitq.kind AS k CROSS JOIN LATERAL (
        (SELECT o.id FROM sitq.lane AS o
            WHERE o.held_by = $2::text AND o.kind = k.id AND o.turn IS NULL AND o.head_sequence IS NOT NULL
            ORDER BY o.head_priority DESC, o.head_sequence LIMIT $3::bigint)
        UNION ALL
        (SELECT o.id FROM sitq.lane AS o
            WHERE o.held_by = $2::text AND o.kind = k.id AND o.turn >= 0 AND o.head_sequence IS NOT NULL
            ORDER BY o.turn, o.head_priority DESC, o.head_sequence LIMIT $3::bigint)
    ) AS l WHERE k.queue = $1::bigint
))

-- name: holding
-- Which of the keys hold lanes of the queue.
SELECT coalesce(json_agg(j.key), '[]')::text FROM jsonb_array_elements_text($2::jsonb) AS j(key) WHERE EXISTS (
    SELECT 1 FROM sitq.kind AS k JOIN sitq.lane AS l
    ON l.held_by = ANY (ARRAY[j.key]) AND l.kind = ANY (ARRAY[k.id]) AND l.head_sequence IS NOT NULL
    WHERE k.queue = $1::bigint)

-- name: remember_claim
INSERT INTO sitq.claim AS c (id, at, tasks) VALUES ($1::text, $2::bigint, $3::text)
ON CONFLICT (id) DO UPDATE SET at = excluded.at, tasks = excluded.tasks

-- name: marks_of
SELECT coalesce(json_agg(m.key), '[]')::text FROM jsonb_array_elements_text($2::jsonb) AS j(key)
JOIN sitq.mark AS m ON m.key = ANY (ARRAY[j.key]) AND m.queue = $1::bigint

-- name: start_own
-- The starts of a queue that has a limit of its own are counted by a key that no task can name.
INSERT INTO sitq.key (key, per, burst, arrival) VALUES (chr(30) || $1::text, 1000000, 1, $2::bigint)
ON CONFLICT (key) DO UPDATE SET arrival = excluded.arrival

-- name: start
UPDATE sitq.task SET
    stage = 3, attempt = attempt + 1, token = $2::text, owner = $3::text, lease_until = $4::bigint,
    started = $5::bigint, expire_at = NULL
WHERE sequence = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))
