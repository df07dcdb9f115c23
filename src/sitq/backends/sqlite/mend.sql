-- Statements about stored columns that do not hold what sitq writes into them.

-- name: misfits
-- The tasks with such columns, and which these are.
SELECT sequence, substr(why, 3) FROM (
    SELECT sequence,
        iif(typeof(id) = 'text', '', ', id holds ' || typeof(id))
        || iif(typeof(queue) = 'integer', '', ', queue holds ' || typeof(queue))
        || iif(typeof(lane) = 'integer', '', ', lane holds ' || typeof(lane))
        || iif(typeof(lane) <> 'integer' OR EXISTS (SELECT 1 FROM sitq_lane AS l CROSS JOIN sitq_kind AS k
                ON k.id = l.kind WHERE l.id = lane AND k.queue = sitq_task.queue), '', ', lane is none of its queue')
        || iif(typeof(stage) = 'integer' AND stage BETWEEN 0 AND 8, '', ', stage holds ' || typeof(stage))
        || iif(typeof(priority) = 'integer', '', ', priority holds ' || typeof(priority))
        || iif(typeof(due) = 'integer', '', ', due holds ' || typeof(due))
        || iif(typeof(delay) IN ('integer', 'null'), '', ', delay holds ' || typeof(delay))
        || iif(typeof(created) = 'integer', '', ', created holds ' || typeof(created))
        || iif(typeof(ttl) IN ('integer', 'null'), '', ', ttl holds ' || typeof(ttl))
        || iif(typeof(deadline) IN ('integer', 'null'), '', ', deadline holds ' || typeof(deadline))
        || iif(typeof(expires) IN ('integer', 'null'), '', ', expires holds ' || typeof(expires))
        || iif(typeof(expire_at) IN ('integer', 'null'), '', ', expire_at holds ' || typeof(expire_at))
        || iif(typeof(attempt) = 'integer', '', ', attempt holds ' || typeof(attempt))
        || iif(typeof(failures) IN ('integer', 'null'), '', ', failures holds ' || typeof(failures))
        || iif(typeof(crashes) IN ('integer', 'null'), '', ', crashes holds ' || typeof(crashes))
        || iif(typeof(alone) IN ('integer', 'null'), '', ', alone holds ' || typeof(alone))
        || iif(typeof(token) IN ('text', 'null'), '', ', token holds ' || typeof(token))
        || iif(typeof(owner) IN ('text', 'null'), '', ', owner holds ' || typeof(owner))
        || iif(typeof(lease_until) IN ('integer', 'null'), '', ', lease_until holds ' || typeof(lease_until))
        || iif(typeof(stop) IN ('text', 'null'), '', ', stop holds ' || typeof(stop))
        || iif(typeof(started) IN ('integer', 'null'), '', ', started holds ' || typeof(started))
        || iif(typeof(finished) IN ('integer', 'null'), '', ', finished holds ' || typeof(finished))
        || iif(typeof(keep_until) IN ('integer', 'null'), '', ', keep_until holds ' || typeof(keep_until))
        || iif(typeof(keep) IN ('integer', 'null'), '', ', keep holds ' || typeof(keep))
        || iif(typeof(keep_failed) IN ('integer', 'null'), '', ', keep_failed holds ' || typeof(keep_failed))
        || iif(typeof(stride) IN ('integer', 'null'), '', ', stride holds ' || typeof(stride))
        || iif(typeof(reply) IN ('text', 'null'), '', ', reply holds ' || typeof(reply))
        || iif(typeof(wants) IN ('text', 'null'), '', ', wants holds ' || typeof(wants))
        || iif(typeof(parents) IN ('integer', 'null'), '', ', parents holds ' || typeof(parents))
        || iif(typeof(unarmed) IN ('integer', 'null'), '', ', unarmed holds ' || typeof(unarmed))
        || iif(typeof(milestone) IN ('integer', 'null'), '', ', milestone holds ' || typeof(milestone))
        || iif(typeof(ends) IN ('text', 'null'), '', ', ends holds ' || typeof(ends))
        AS why
    FROM sitq_task WHERE NOT (  -- quick to say of rows that fit, unlike the texts above
        id IS CAST(id AS TEXT) AND token IS CAST(token AS TEXT) AND owner IS CAST(owner AS TEXT) AND
        stop IS CAST(stop AS TEXT) AND reply IS CAST(reply AS TEXT) AND wants IS CAST(wants AS TEXT) AND
        queue IS CAST(queue AS INTEGER) AND lane IS CAST(lane AS INTEGER) AND
        stage IS CAST(stage AS INTEGER) AND priority IS CAST(priority AS INTEGER) AND
        due IS CAST(due AS INTEGER) AND delay IS CAST(delay AS INTEGER) AND
        created IS CAST(created AS INTEGER) AND ttl IS CAST(ttl AS INTEGER) AND
        deadline IS CAST(deadline AS INTEGER) AND expires IS CAST(expires AS INTEGER) AND
        expire_at IS CAST(expire_at AS INTEGER) AND attempt IS CAST(attempt AS INTEGER) AND
        failures IS CAST(failures AS INTEGER) AND crashes IS CAST(crashes AS INTEGER) AND
        alone IS CAST(alone AS INTEGER) AND lease_until IS CAST(lease_until AS INTEGER) AND
        started IS CAST(started AS INTEGER) AND finished IS CAST(finished AS INTEGER) AND
        keep_until IS CAST(keep_until AS INTEGER) AND keep IS CAST(keep AS INTEGER) AND
        keep_failed IS CAST(keep_failed AS INTEGER) AND stride IS CAST(stride AS INTEGER) AND
        parents IS CAST(parents AS INTEGER) AND unarmed IS CAST(unarmed AS INTEGER) AND
        milestone IS CAST(milestone AS INTEGER) AND ends IS CAST(ends AS TEXT) AND
        stage BETWEEN 0 AND 8 AND
        EXISTS (SELECT 1 FROM sitq_lane AS l CROSS JOIN sitq_kind AS k ON k.id = l.kind
            WHERE l.id = lane AND k.queue = sitq_task.queue)
    )
)
UNION ALL
SELECT child, 'what it depends on is not to be read' FROM sitq_edge
WHERE typeof(parent) <> 'integer' OR typeof(child) <> 'integer' OR typeof(effects) <> 'text'
UNION ALL
SELECT task, 'the name of a step holds ' || typeof(name) FROM sitq_step
WHERE typeof(task) <> 'integer' OR typeof(name) <> 'text'

-- name: texts
-- All texts of tasks, to look whether they are UTF-8.
SELECT sequence, id, token, owner, stop, reply, wants, ends FROM sitq_task

-- name: step_names
SELECT task, name FROM sitq_step

-- name: edge_effects
SELECT child, effects FROM sitq_edge

-- name: mend
-- What such columns get instead, so that the tasks can be read. One whose stage means nothing has ended if it says when.
UPDATE sitq_task SET
    id = iif(typeof(id) = 'text', id, 'damaged-' || sequence),
    queue = iif(EXISTS (SELECT 1 FROM sitq_lane AS l CROSS JOIN sitq_kind AS k ON k.id = l.kind
        WHERE l.id = lane AND k.queue = sitq_task.queue), queue, ?3),
    lane = iif(EXISTS (SELECT 1 FROM sitq_lane AS l CROSS JOIN sitq_kind AS k ON k.id = l.kind
        WHERE l.id = lane AND k.queue = sitq_task.queue), lane, ?4),
    stage = iif(typeof(stage) = 'integer' AND stage BETWEEN 0 AND 8, stage, iif(finished IS NULL, 1, 8)),
    priority = iif(typeof(priority) = 'integer', priority, 0),
    due = iif(typeof(due) = 'integer', due, ?2),
    delay = iif(typeof(delay) = 'integer', delay, NULL),
    created = iif(typeof(created) = 'integer', created, ?2),
    ttl = iif(typeof(ttl) = 'integer', ttl, NULL),
    deadline = iif(typeof(deadline) = 'integer', deadline, NULL),
    expires = iif(typeof(expires) = 'integer', expires, NULL),
    expire_at = iif(typeof(expire_at) = 'integer', expire_at, NULL),
    attempt = iif(typeof(attempt) = 'integer', attempt, 0),
    failures = iif(typeof(failures) = 'integer', failures, NULL),
    crashes = iif(typeof(crashes) = 'integer', crashes, NULL),
    alone = iif(typeof(alone) = 'integer', alone, NULL),
    token = iif(typeof(token) = 'text', token, NULL),
    owner = iif(typeof(owner) = 'text', owner, NULL),
    lease_until = iif(typeof(lease_until) = 'integer', lease_until, NULL),
    stop = iif(typeof(stop) = 'text', stop, NULL),
    started = iif(typeof(started) = 'integer', started, NULL),
    finished = iif(typeof(finished) = 'integer', finished, NULL),
    keep_until = iif(
        typeof(keep_until) = 'integer', keep_until, iif(typeof(stage) = 'integer' AND stage < 4, NULL, ?5)),
    keep = iif(typeof(keep) = 'integer', keep, NULL),
    keep_failed = iif(typeof(keep_failed) = 'integer', keep_failed, NULL),
    stride = iif(typeof(stride) = 'integer', stride, NULL),
    reply = iif(typeof(reply) = 'text', reply, NULL),
    wants = iif(typeof(wants) = 'text', wants, NULL),
    parents = iif(typeof(parents) = 'integer', parents, NULL),
    unarmed = iif(typeof(unarmed) = 'integer', unarmed, NULL),
    milestone = iif(typeof(milestone) = 'integer', milestone, NULL),
    ends = iif(typeof(ends) = 'text', ends, NULL)
WHERE sequence IN (SELECT value FROM json_each(?1))

-- name: mend_texts
UPDATE sitq_task SET id = ?2, token = ?3, owner = ?4, stop = ?5, reply = ?6, wants = ?7, ends = ?8
WHERE sequence = ?1

-- name: without_lane
SELECT sequence FROM sitq_task
WHERE sequence IN (SELECT value FROM json_each(?1))
    AND NOT EXISTS (SELECT 1 FROM sitq_lane AS l CROSS JOIN sitq_kind AS k ON k.id = l.kind
        WHERE l.id = lane AND k.queue = sitq_task.queue)

-- name: count_lane
UPDATE sitq_lane SET tasks = tasks + ?2 WHERE id = ?1

-- name: drop_step
DELETE FROM sitq_step WHERE task = ?1 AND CAST(name AS BLOB) = ?2

-- name: drop_edge
DELETE FROM sitq_edge WHERE child = ?1 AND CAST(effects AS BLOB) = ?2

-- name: drop_bad_edges
DELETE FROM sitq_edge
WHERE typeof(parent) <> 'integer' OR typeof(child) <> 'integer' OR typeof(effects) <> 'text'

-- name: drop_bad_steps
DELETE FROM sitq_step WHERE typeof(task) <> 'integer' OR typeof(name) <> 'text'

-- name: drop_bad_uniques
DELETE FROM sitq_unique WHERE typeof(key) <> 'text' OR typeof(task) <> 'text'

-- name: mend_cells
-- A pause whose end cannot be read lasts until somebody resumes it.
UPDATE sitq_cell SET until = NULL WHERE typeof(until) NOT IN ('integer', 'null')

-- name: drop_tally
DELETE FROM sitq_tally

-- name: count_anew
INSERT INTO sitq_tally (queue, state, tasks)
SELECT queue, iif(stage = 2, 1, stage), count(*) FROM sitq_task GROUP BY queue, iif(stage = 2, 1, stage)
