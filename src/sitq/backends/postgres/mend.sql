-- Statements about stored columns that do not hold what sitq writes into them. The server sees to their types; what is
-- left are numbers and texts that mean nothing. `$n::bigint` is the bound of what numbers may be.

-- name: misfits
-- The tasks with such columns, and which these are.
SELECT sequence, substr(why, 3) FROM (
    SELECT t.sequence, concat(
        CASE WHEN NOT t.stage BETWEEN 0 AND 8 THEN ', stage holds ' || t.stage END,
        CASE WHEN NOT EXISTS (SELECT 1 FROM sitq.lane AS l JOIN sitq.kind AS k ON k.id = ANY (ARRAY[l.kind])
            JOIN sitq.queue AS q ON q.id = ANY (ARRAY[k.queue])
            WHERE l.id = ANY (ARRAY[t.lane]) AND l.queue = t.queue AND k.queue = t.queue)
            THEN ', lane ' || t.lane || ' is none of queue ' || t.queue END,
        CASE WHEN t.wants !~ '^[wax][0-9]{1,18}:' THEN ', wants holds no unique key' END,
        CASE WHEN NOT t.attempt BETWEEN 0 AND 2147483646 THEN ', attempt holds ' || t.attempt END,
        (SELECT string_agg(', ' || n.name || ' holds ' || n.value, '')
            FROM unnest(
                ARRAY['priority', 'due', 'created', 'lease_until', 'started', 'finished', 'keep_until', 'delay', 'ttl',
                    'deadline', 'expires', 'expire_at', 'failures', 'crashes', 'alone', 'keep', 'keep_failed', 'stride',
                    'parents', 'unarmed', 'milestone'],
                ARRAY[t.priority, t.due, t.created, t.lease_until, t.started, t.finished, t.keep_until, t.delay, t.ttl,
                    t.deadline, t.expires, t.expire_at, t.failures, t.crashes, t.alone, t.keep, t.keep_failed, t.stride,
                    t.parents, t.unarmed, t.milestone]) AS n(name, value)
            WHERE NOT n.value BETWEEN -$1::bigint AND $1::bigint)
    ) AS why
    FROM sitq.task AS t
) AS m WHERE why <> ''

-- name: mend
-- What such columns get instead, so that the tasks can be read: $1 the tasks, $2 now, $3 a queue and $4 a lane, $5 when
-- those that have ended are to go, $6 the bound. A task whose stage means nothing has ended if it says when.
UPDATE sitq.task AS t SET
    queue = CASE WHEN w.fits THEN t.queue ELSE $3::bigint END,
    lane = CASE WHEN w.fits THEN t.lane ELSE $4::bigint END,
    stage = CASE WHEN t.stage BETWEEN 0 AND 8 THEN t.stage WHEN t.finished IS NULL THEN 1 ELSE 8 END,
    wants = CASE WHEN t.wants ~ '^[wax][0-9]{1,18}:' THEN t.wants END,
    attempt = CASE WHEN t.attempt BETWEEN 0 AND 2147483646 THEN t.attempt ELSE 0 END,
    priority = CASE WHEN t.priority BETWEEN -$6::bigint AND $6::bigint THEN t.priority ELSE 0 END,
    due = CASE WHEN t.due BETWEEN -$6::bigint AND $6::bigint THEN t.due ELSE $2::bigint END,
    created = CASE WHEN t.created BETWEEN -$6::bigint AND $6::bigint THEN t.created ELSE $2::bigint END,
    lease_until = CASE WHEN t.lease_until BETWEEN -$6::bigint AND $6::bigint THEN t.lease_until END,
    started = CASE WHEN t.started BETWEEN -$6::bigint AND $6::bigint THEN t.started END,
    finished = CASE WHEN t.finished BETWEEN -$6::bigint AND $6::bigint THEN t.finished END,
    keep_until = CASE WHEN t.keep_until BETWEEN -$6::bigint AND $6::bigint THEN t.keep_until
        WHEN NOT t.stage BETWEEN 0 AND 3 THEN $5::bigint END,
    delay = CASE WHEN t.delay BETWEEN -$6::bigint AND $6::bigint THEN t.delay END,
    ttl = CASE WHEN t.ttl BETWEEN -$6::bigint AND $6::bigint THEN t.ttl END,
    deadline = CASE WHEN t.deadline BETWEEN -$6::bigint AND $6::bigint THEN t.deadline END,
    expires = CASE WHEN t.expires BETWEEN -$6::bigint AND $6::bigint THEN t.expires END,
    expire_at = CASE WHEN t.expire_at BETWEEN -$6::bigint AND $6::bigint THEN t.expire_at END,
    failures = CASE WHEN t.failures BETWEEN -$6::bigint AND $6::bigint THEN t.failures END,
    crashes = CASE WHEN t.crashes BETWEEN -$6::bigint AND $6::bigint THEN t.crashes END,
    alone = CASE WHEN t.alone BETWEEN -$6::bigint AND $6::bigint THEN t.alone END,
    keep = CASE WHEN t.keep BETWEEN -$6::bigint AND $6::bigint THEN t.keep END,
    keep_failed = CASE WHEN t.keep_failed BETWEEN -$6::bigint AND $6::bigint THEN t.keep_failed END,
    stride = CASE WHEN t.stride BETWEEN -$6::bigint AND $6::bigint THEN t.stride END,
    parents = CASE WHEN t.parents BETWEEN -$6::bigint AND $6::bigint THEN t.parents END,
    unarmed = CASE WHEN t.unarmed BETWEEN -$6::bigint AND $6::bigint THEN t.unarmed END,
    milestone = CASE WHEN t.milestone BETWEEN -$6::bigint AND $6::bigint THEN t.milestone END
FROM (
    SELECT j.sequence::bigint AS sequence,
        EXISTS (SELECT 1 FROM sitq.lane AS l JOIN sitq.kind AS k ON k.id = ANY (ARRAY[l.kind])
            JOIN sitq.queue AS q ON q.id = ANY (ARRAY[k.queue])
            WHERE l.id = ANY (ARRAY[s.lane]) AND l.queue = s.queue AND k.queue = s.queue) AS fits
    FROM jsonb_array_elements_text($1::jsonb) AS j(sequence)
    JOIN sitq.task AS s ON s.sequence = ANY (ARRAY[j.sequence::bigint])
) AS w
WHERE t.sequence = ANY (ARRAY[w.sequence])

-- name: lane_texts
SELECT id, keys FROM sitq.lane WHERE keys <> '[]'

-- name: drop_lanes_by_id
DELETE FROM sitq.lane WHERE id = ANY ($1::bigint[])

-- name: claim_texts
SELECT number, tasks FROM sitq.claim

-- name: drop_claims_by_number
DELETE FROM sitq.claim WHERE number = ANY ($1::bigint[])

-- name: drop_bad_edges
DELETE FROM sitq.edge WHERE effects !~ '^[gacf]{5}$' RETURNING child

-- name: mend_turns
UPDATE sitq.queue SET served = 0, turn = 0
WHERE NOT (served BETWEEN 0 AND $1::bigint AND turn BETWEEN 0 AND $1::bigint)

-- name: mend_tenants
UPDATE sitq.tenant SET turn = 0 WHERE NOT turn BETWEEN 0 AND $1::bigint

-- name: mend_keys
UPDATE sitq.key SET
    slots = CASE WHEN slots BETWEEN 0 AND $1::bigint THEN slots END,
    rate = CASE WHEN rate BETWEEN 0 AND $1::bigint THEN rate END,
    per = CASE WHEN per BETWEEN 1 AND $1::bigint THEN per ELSE 1000000 END,
    burst = CASE WHEN burst BETWEEN 1 AND $1::bigint THEN burst ELSE 1 END,
    arrival = CASE WHEN arrival BETWEEN -$1::bigint AND $1::bigint THEN arrival ELSE 0 END,
    frozen = CASE WHEN frozen BETWEEN -$1::bigint AND $1::bigint THEN frozen ELSE 0 END
WHERE NOT (
    coalesce(slots, 0) BETWEEN 0 AND $1::bigint AND coalesce(rate, 0) BETWEEN 0 AND $1::bigint
    AND per BETWEEN 1 AND $1::bigint AND burst BETWEEN 1 AND $1::bigint
    AND arrival BETWEEN -$1::bigint AND $1::bigint AND frozen BETWEEN -$1::bigint AND $1::bigint)

-- name: mend_cells
-- A pause whose end cannot be read lasts until somebody resumes it.
UPDATE sitq.cell SET until = NULL WHERE NOT until BETWEEN -$1::bigint AND $1::bigint

-- name: count_lanes
-- Which of its tasks is the best, and what holds it, is seen anew, too.
UPDATE sitq.lane AS l SET
    tasks = (SELECT count(*) FROM sitq.task AS t WHERE t.lane = l.id),
    turn = CASE WHEN l.tenant IS NOT NULL THEN CASE WHEN l.turn BETWEEN 0 AND $1::bigint THEN l.turn ELSE 0 END END,
    held_by = NULL,
    (head_priority, head_sequence) = (
        SELECT t.priority, t.sequence FROM sitq.task AS t
        WHERE t.lane = l.id AND t.stage = 2 ORDER BY t.priority DESC, t.sequence LIMIT 1
    )
WHERE l.managed

-- name: count_keys
UPDATE sitq.key AS k SET running = (
    SELECT count(*) FROM sitq.lane_key AS j JOIN sitq.task AS t ON t.lane = j.lane AND t.stage = 3
    WHERE j.key = ANY (ARRAY[k.key])
) WHERE EXISTS (SELECT 1 FROM sitq.lane_key AS j WHERE j.key = ANY (ARRAY[k.key]))

-- name: mark_anew
UPDATE sitq.mark SET at = 0

-- name: drop_tally
DELETE FROM sitq.tally

-- name: count_anew
INSERT INTO sitq.tally (queue, state, slot, tasks)
SELECT queue, CASE stage WHEN 2 THEN 1 ELSE stage END, 0, count(*) FROM sitq.task
GROUP BY queue, CASE stage WHEN 2 THEN 1 ELSE stage END
