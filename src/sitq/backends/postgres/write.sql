-- Statements that write what a transaction changed. Each takes a whole batch, as arrays of columns or as one JSON
-- array, so that the number of round trips does not depend on the number of rows.
-- Rows are found by their keys, however small the planner believes a table to be that was empty a while ago: so they
-- are joined by `key = ANY (ARRAY[other])`, and `OFFSET 0` stands in subqueries; the first migration says why.

-- name: make_queues
INSERT INTO sitq.queue (name)
-- Queues are numbered in the order of their first use, in which they have their turns at upkeep.
SELECT j.value ->> 0 FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS j(value, at)
GROUP BY 1 ORDER BY min(j.at)
ON CONFLICT (name) DO NOTHING

-- name: make_kinds
INSERT INTO sitq.kind (queue, name, python)
SELECT DISTINCT q.id, j.value ->> 1, j.value ->> 2
FROM jsonb_array_elements($1::jsonb) AS j(value) JOIN sitq.queue AS q ON q.name = ANY (ARRAY[j.value ->> 0])
ON CONFLICT (queue, name, python) DO NOTHING

-- name: make_lanes
INSERT INTO sitq.lane (kind, queue, tenant, keys, managed, turn)
SELECT k.id, q.id, j.value ->> 3, j.value ->> 4, j.value ->> 3 IS NOT NULL OR j.value ->> 4 <> '[]',
    CASE WHEN j.value ->> 3 IS NOT NULL THEN coalesce(t.turn, 0) END
FROM jsonb_array_elements($1::jsonb) AS j(value)
JOIN sitq.queue AS q ON q.name = ANY (ARRAY[j.value ->> 0])
JOIN sitq.kind AS k ON k.queue = ANY (ARRAY[q.id]) AND k.name = j.value ->> 1 AND k.python = j.value ->> 2
LEFT JOIN sitq.tenant AS t ON t.queue = q.id AND t.key = j.value ->> 3
ON CONFLICT DO NOTHING

-- name: find_lanes
SELECT coalesce(json_agg(json_build_array(
    l.id, l.queue, l.kind, q.name, k.name, k.python, l.tenant, l.keys)), '[]')::text
FROM jsonb_array_elements($1::jsonb) AS j(value)
JOIN sitq.queue AS q ON q.name = ANY (ARRAY[j.value ->> 0])
JOIN sitq.kind AS k ON k.queue = ANY (ARRAY[q.id]) AND k.name = j.value ->> 1 AND k.python = j.value ->> 2
JOIN sitq.lane AS l ON l.kind = ANY (ARRAY[k.id]) AND l.keys = j.value ->> 4
    AND coalesce('t' || l.tenant, '') = coalesce('t' || (j.value ->> 3), '')

-- name: read_lanes
SELECT coalesce(json_agg(json_build_array(
    l.id, l.queue, l.kind, q.name, k.name, k.python, l.tenant, l.keys)), '[]')::text
FROM jsonb_array_elements_text($1::jsonb) AS j(lane)
JOIN sitq.lane AS l ON l.id = ANY (ARRAY[j.lane::bigint])
JOIN sitq.kind AS k ON k.id = ANY (ARRAY[l.kind])
JOIN sitq.queue AS q ON q.id = ANY (ARRAY[l.queue])

-- name: make_lane_keys
INSERT INTO sitq.lane_key (key, lane)
SELECT j.value ->> 0, (j.value ->> 1)::bigint FROM jsonb_array_elements($1::jsonb) AS j(value)
ON CONFLICT DO NOTHING

-- name: get_sequence
SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM sitq.task_sequence

-- name: set_sequence
SELECT setval('sitq.task_sequence', $1::bigint)

-- name: keep_sequence
-- The sequence goes on by itself, whatever is deleted.
SELECT 1

-- name: insert_task
INSERT INTO sitq.task (
    sequence, id, queue, lane, stage, priority, due, delay, created, ttl, deadline, expires, expire_at,
    attempt, failures, crashes, alone, token, owner, lease_until, stop, started, finished, keep_until,
    keep, keep_failed, stride, reply, wants, parents, unarmed, milestone, ends, history, body
)
SELECT * FROM unnest(
    $1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::smallint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::integer[], $15::bigint[],
    $16::bigint[], $17::bigint[], $18::text[], $19::text[], $20::bigint[], $21::text[], $22::bigint[], $23::bigint[],
    $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::text[], $29::text[], $30::bigint[], $31::bigint[],
    $32::bigint[], $33::text[], $34::bytea[], $35::bytea[]
)

-- name: replace_body
UPDATE sitq.task SET body = $2::bytea WHERE sequence = $1::bigint

-- name: insert_edge
INSERT INTO sitq.edge (parent, child, effects, done)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::smallint[])

-- name: insert_unique
INSERT INTO sitq.unique_key (key, task) SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (key) DO UPDATE SET task = excluded.task

-- name: insert_step
INSERT INTO sitq.step (task, name, value) SELECT * FROM unnest($1::bigint[], $2::text[], $3::bytea[])
ON CONFLICT (task, name) DO NOTHING

-- name: store
-- Everything that can change but the blobs.
UPDATE sitq.task SET
    stage = v.stage, priority = v.priority, due = v.due, delay = v.delay, expires = v.expires,
    expire_at = v.expire_at, attempt = v.attempt, failures = v.failures, crashes = v.crashes,
    alone = v.alone, token = v.token, owner = v.owner, lease_until = v.lease_until,
    stop = v.stop, started = v.started, finished = v.finished, keep_until = v.keep_until,
    reply = v.reply, wants = v.wants, parents = v.parents, unarmed = v.unarmed, ends = v.ends
FROM unnest(
    $1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::integer[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::bigint[], $15::text[], $16::bigint[],
    $17::bigint[], $18::bigint[], $19::text[], $20::text[], $21::bigint[], $22::bigint[], $23::text[]
) AS v (
    sequence, stage, priority, due, delay, expires, expire_at, attempt, failures, crashes, alone, token, owner,
    lease_until, stop, started, finished, keep_until, reply, wants, parents, unarmed, ends
)
WHERE task.sequence = ANY (ARRAY[v.sequence])

-- name: send
-- A waiting task goes to another lane.
UPDATE sitq.task SET queue = $2::bigint, lane = $3::bigint WHERE sequence = $1::bigint

-- name: store_lifted
-- What a parent's end changes of a task that is still blocked, or queued by it.
UPDATE sitq.task SET stage = v.stage, due = v.due, parents = v.parents, unarmed = v.unarmed, ends = v.ends
FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
    AS v (sequence, stage, due, parents, unarmed, ends)
WHERE task.sequence = ANY (ARRAY[v.sequence])

-- name: store_history
UPDATE sitq.task SET history = substr($2::bytea, (j.value ->> 1)::integer, (j.value ->> 2)::integer)
FROM jsonb_array_elements($1::jsonb) AS j(value) WHERE sequence = ANY (ARRAY[(j.value ->> 0)::bigint])

-- name: store_result
UPDATE sitq.task SET result = substr($2::bytea, (j.value ->> 1)::integer, (j.value ->> 2)::integer)
FROM jsonb_array_elements($1::jsonb) AS j(value) WHERE sequence = ANY (ARRAY[(j.value ->> 0)::bigint])

-- name: drop_bodies
-- They go with their tasks.
SELECT $1::text

-- name: settle
-- The usual end of an attempt: what it leaves as it is need not be written.
-- $2 says where in $3 the results are: ten digits of the start, 0 for none, and ten of the length.
UPDATE sitq.task SET
    stage = $4::smallint, keep_until = $5::bigint, finished = $6::bigint, lease_until = NULL, owner = NULL, stop = NULL,
    result = CASE WHEN j.start > 0 THEN substr($3::bytea, j.start, j.length) END
FROM (
    SELECT e.sequence::bigint AS sequence,
        substr(p.digits, 20 * e.at::integer - 19, 10)::integer AS start,
        substr(p.digits, 20 * e.at::integer - 9, 10)::integer AS length
    FROM convert_from($2::bytea, 'UTF8') AS p(digits)
    CROSS JOIN jsonb_array_elements_text($1::jsonb) WITH ORDINALITY AS e(sequence, at)
) AS j
WHERE task.sequence = ANY (ARRAY[j.sequence])

-- name: delete_tasks
DELETE FROM sitq.task WHERE sequence = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))

-- name: delete_steps
DELETE FROM sitq.step WHERE task = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))

-- name: delete_edges_of_children
DELETE FROM sitq.edge WHERE child = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))

-- name: count
-- Who writes here has the lock of the namespace for itself, so it waits for none of the slots.
INSERT INTO sitq.tally AS t (queue, state, slot, tasks)
SELECT (j.value ->> 0)::bigint, (j.value ->> 1)::smallint, 0, (j.value ->> 2)::bigint
FROM jsonb_array_elements($1::jsonb) AS j(value)
ON CONFLICT (queue, state, slot) DO UPDATE SET tasks = t.tasks + excluded.tasks

-- name: count_one
UPDATE sitq.tally SET tasks = tasks + $3::bigint WHERE queue = $1::bigint AND state = $2::smallint AND slot = 0

-- name: raise_lanes
-- Tasks came: [lane, tasks more, priority of the best ready one or null, its sequence].
-- A held lane with a better head than it was judged by is to be judged anew. As many rows are returned as there are
-- lanes, which says whether one of them is gone.
WITH raised AS (
    UPDATE sitq.lane SET
        tasks = tasks + j.more,
        held_by = CASE WHEN NOT j.better THEN held_by END,
        head_priority = CASE WHEN j.better THEN j.priority ELSE head_priority END,
        head_sequence = CASE WHEN j.better THEN j.sequence ELSE head_sequence END
    FROM (
        SELECT l.id, a.more, a.priority, a.sequence,
            a.sequence IS NOT NULL AND (l.head_sequence IS NULL
                OR (-a.priority, a.sequence) < (-l.head_priority, l.head_sequence)) AS better
        FROM (
            SELECT (j.value ->> 0)::bigint AS lane, (j.value ->> 1)::bigint AS more, (j.value ->> 2)::bigint AS priority,
                (j.value ->> 3)::bigint AS sequence
            FROM jsonb_array_elements($1::jsonb) AS j(value)
        ) AS a JOIN sitq.lane AS l ON l.id = ANY (ARRAY[a.lane]) AND l.managed IS TRUE
    ) AS j
    WHERE lane.id = ANY (ARRAY[j.id])
)
SELECT l.kind FROM jsonb_array_elements($1::jsonb) AS j(value)
JOIN sitq.lane AS l ON l.id = ANY (ARRAY[(j.value ->> 0)::bigint])

-- name: join_lane
-- The same of a single lane whose head stays: $1 the lane, $2 tasks more, $3 priority, $4 sequence.
UPDATE sitq.lane SET tasks = tasks + $2::bigint WHERE id = $1::bigint AND managed IS TRUE AND ($4::bigint IS NULL
    OR (-head_priority, head_sequence) < (-$3::bigint, $4::bigint))

-- name: raise_lane
-- The same of a single lane: $1 the lane, $2 tasks more, $3 priority, $4 sequence.
WITH raised AS (
    UPDATE sitq.lane SET
        tasks = tasks + $2::bigint,
        held_by = CASE WHEN NOT j.better THEN held_by END,
        head_priority = CASE WHEN j.better THEN $3::bigint ELSE head_priority END,
        head_sequence = CASE WHEN j.better THEN $4::bigint ELSE head_sequence END
    FROM (
        SELECT l.id, $4::bigint IS NOT NULL AND (l.head_sequence IS NULL
            OR (-$3::bigint, $4::bigint) < (-l.head_priority, l.head_sequence)) AS better
        FROM sitq.lane AS l WHERE l.id = $1::bigint AND l.managed IS TRUE
    ) AS j
    WHERE lane.id = ANY (ARRAY[j.id])
)
SELECT id FROM sitq.lane WHERE id = $1::bigint

-- name: lower_lanes
-- Ready tasks went: the head is whatever is best now.
UPDATE sitq.lane SET (head_priority, head_sequence) = (
    SELECT t.priority, t.sequence FROM sitq.task AS t
    WHERE t.lane = lane.id AND t.stage = 2 ORDER BY t.priority DESC, t.sequence LIMIT 1
)
WHERE id = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint)) AND managed IS TRUE

-- name: free_keys
UPDATE sitq.key SET running = running - $2::bigint WHERE key = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)))

-- name: queues_held
SELECT coalesce(json_agg(q.name), '[]')::text FROM sitq.queue AS q WHERE q.id = ANY (ARRAY(
    SELECT m.queue FROM jsonb_array_elements_text($1::jsonb) AS j(key) CROSS JOIN LATERAL (
        SELECT m.queue FROM sitq.mark AS m WHERE m.key = j.key OFFSET 0) AS m))

-- name: mark_keys
UPDATE sitq.mark SET at = 0 WHERE key = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb))) AND at > 0

-- name: edges_over
-- Of tasks that have ended: they are only there to be found by their parents.
UPDATE sitq.edge SET done = 1 WHERE child = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))

-- name: edges_of_parents
SELECT coalesce(json_agg(json_build_array(e.parent, e.child, e.effects) ORDER BY e.child), '[]')::text
FROM sitq.edge AS e
WHERE e.parent = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint)) AND e.done = 0

-- name: read_uniques
SELECT coalesce(json_agg(json_build_array(u.key, u.task)), '[]')::text
FROM jsonb_array_elements_text($1::jsonb) AS j(key) JOIN sitq.unique_key AS u ON u.key = ANY (ARRAY[j.key])

-- name: drop_uniques
-- Of deleted tasks: [key, id].
DELETE FROM sitq.unique_key AS u USING jsonb_array_elements($1::jsonb) AS j(value)
WHERE u.key = ANY (ARRAY[j.value ->> 0]) AND u.task = j.value ->> 1

-- name: waiting_in
SELECT q.id, (SELECT coalesce(sum(t.tasks), 0)::bigint FROM sitq.tally AS t WHERE t.queue = q.id AND t.state IN (0, 1))
FROM sitq.queue AS q WHERE q.name = $1::text

-- name: store_limits
-- Answers with the keys for which the figures are new: they may hold lanes by others.
INSERT INTO sitq.key AS k (key, slots, rate, per, burst)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
ON CONFLICT (key) DO UPDATE SET slots = excluded.slots, rate = excluded.rate, per = excluded.per, burst = excluded.burst
WHERE (k.slots, k.rate, k.per, k.burst)
    IS DISTINCT FROM (excluded.slots, excluded.rate, excluded.per, excluded.burst)
RETURNING k.key

-- name: freeze_key
INSERT INTO sitq.key AS k (key, per, burst, frozen) VALUES ($1::text, 1000000, 1, $2::bigint)
ON CONFLICT (key) DO UPDATE SET frozen = greatest(k.frozen, excluded.frozen)

-- name: has_children
SELECT EXISTS (SELECT 1 FROM sitq.edge WHERE parent = $1::bigint AND done = 0)

-- name: delete_edges_of_parent
DELETE FROM sitq.edge WHERE parent = $1::bigint

-- name: drop_old_cells
DELETE FROM sitq.cell WHERE until IS NOT NULL AND until <= $1::bigint

-- name: overdue_anywhere
SELECT coalesce(json_agg(sequence ORDER BY at), '[]')::text FROM (
    SELECT t.sequence, row_number() OVER () AS at FROM sitq.queue AS q CROSS JOIN LATERAL (
        SELECT t.sequence, t.expire_at FROM sitq.task AS t
        WHERE t.queue = q.id AND t.expire_at IS NOT NULL AND t.expire_at <= $1::bigint
        ORDER BY t.expire_at, t.sequence LIMIT $2::bigint
    ) AS t
    ORDER BY q.id, t.expire_at, t.sequence LIMIT $2::bigint
) AS f

-- name: purgeable
-- Past their time, and neither depended on nor the ones behind a unique key's window.
SELECT coalesce(json_agg(sequence), '[]')::text FROM (
    SELECT t.sequence FROM sitq.task AS t
    WHERE t.keep_until IS NOT NULL AND t.keep_until <= $1::bigint
        AND NOT EXISTS (SELECT 1 FROM sitq.edge AS e WHERE e.parent = t.sequence AND e.done = 0 OFFSET 0)
        AND (t.wants IS NULL OR substr(t.wants, 1, 1) <> 'x'
            OR t.created + substr(t.wants, 2, strpos(t.wants, ':') - 2)::bigint <= $1::bigint
            OR NOT EXISTS (SELECT 1 FROM sitq.unique_key AS u
                WHERE u.key = substr(t.wants, strpos(t.wants, ':') + 1) AND u.task = t.id))
    ORDER BY t.keep_until, t.sequence LIMIT $2::bigint
) AS f

-- name: resting_queues
SELECT coalesce(json_agg(q.id), '[]')::text FROM sitq.queue AS q
WHERE (q.served <> 0 OR q.turn <> 0 OR EXISTS (SELECT 1 FROM sitq.tenant AS t WHERE t.queue = ANY (ARRAY[q.id])))
    AND coalesce((SELECT sum(c.tasks) FROM sitq.tally AS c WHERE c.queue = q.id AND c.state <= 3), 0) = 0

-- name: rest_queues
UPDATE sitq.queue SET served = 0, turn = 0 WHERE id = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))

-- name: rest_tenants
DELETE FROM sitq.tenant WHERE queue = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))

-- name: rest_lanes
UPDATE sitq.lane SET turn = 0
WHERE managed AND turn > 0 AND queue = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)::bigint))

-- name: drop_lanes
-- Plain ones go when their queue has no tasks at all.
DELETE FROM sitq.lane WHERE id = ANY (ARRAY(
    (SELECT id FROM sitq.lane WHERE tasks = 0 AND managed LIMIT $1::bigint)
    UNION ALL
    (SELECT l.id FROM sitq.queue AS q JOIN sitq.kind AS k ON k.queue = ANY (ARRAY[q.id])
        JOIN sitq.lane AS l ON l.kind = ANY (ARRAY[k.id])
        WHERE NOT l.managed
            AND coalesce((SELECT sum(c.tasks) FROM sitq.tally AS c WHERE c.queue = q.id), 0) = 0
        LIMIT $1::bigint)
)) RETURNING 1

-- name: drop_lane_keys
DELETE FROM sitq.lane_key AS k WHERE NOT EXISTS (SELECT 1 FROM sitq.lane AS l WHERE l.id = ANY (ARRAY[k.lane]))

-- name: drop_keys
DELETE FROM sitq.key AS k WHERE running = 0 AND arrival <= $1::bigint AND frozen <= $1::bigint
    AND NOT EXISTS (SELECT 1 FROM sitq.lane_key AS l WHERE l.key = ANY (ARRAY[k.key]))

-- name: drop_kinds
DELETE FROM sitq.kind AS k WHERE NOT EXISTS (SELECT 1 FROM sitq.lane AS l WHERE l.kind = ANY (ARRAY[k.id]))

-- name: drop_queues
DELETE FROM sitq.queue AS q WHERE NOT EXISTS (SELECT 1 FROM sitq.kind AS k WHERE k.queue = ANY (ARRAY[q.id]))

-- name: drop_counts
DELETE FROM sitq.tally AS t WHERE NOT EXISTS (SELECT 1 FROM sitq.queue AS q WHERE q.id = ANY (ARRAY[t.queue]))

-- name: drop_marks_of_queues
DELETE FROM sitq.mark AS m WHERE NOT EXISTS (SELECT 1 FROM sitq.queue AS q WHERE q.id = ANY (ARRAY[m.queue]))

-- name: drop_claims
DELETE FROM sitq.claim WHERE number = ANY (ARRAY(
    SELECT c.number FROM sitq.claim AS c
    WHERE c.at < $1::bigint AND NOT EXISTS (
        SELECT 1 FROM jsonb_array_elements_text(c.tasks::jsonb) AS j(sequence)
        JOIN sitq.task AS t ON t.sequence = ANY (ARRAY[j.sequence::bigint]) WHERE t.stage + 0 = 3 AND t.token = c.id)
    ORDER BY c.number LIMIT $2::bigint
))

-- name: limited_queues
-- Which of the queues have a limit of their own.
SELECT coalesce(json_agg(q.name), '[]')::text
FROM jsonb_array_elements_text($1::jsonb) AS j(queue) JOIN sitq.queue AS q ON q.id = ANY (ARRAY[j.queue::bigint])
WHERE EXISTS (SELECT 1 FROM sitq.cell AS c WHERE c.key = 'limit/queue/' || q.name OFFSET 0)

-- name: queue_names
SELECT coalesce(json_agg(name), '[]')::text FROM sitq.queue

-- name: get_cell
SELECT value, until FROM sitq.cell WHERE key = $1::text FOR UPDATE

-- name: set_cell
INSERT INTO sitq.cell (key, value, until) VALUES ($1::text, $2::bytea, $3::bigint)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, until = excluded.until

-- name: drop_cell
DELETE FROM sitq.cell WHERE key = $1::text
