-- Statements around the functions of the schema, and around transactions.

-- name: begin
-- These plans must not depend on statistics, which a table that was just filled has not.
BEGIN ISOLATION LEVEL READ COMMITTED;
-- A process that is suspended, or whose host is gone without a word, must not keep the namespace for itself.
SET LOCAL idle_in_transaction_session_timeout = '2s';
SET LOCAL enable_seqscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL jit = off;
SELECT pg_advisory_xact_lock(sitq_lock);
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint

-- name: plan_by_indexes
-- The same for what reads outside of such transactions: plans of a session may be kept from when there was little.
SELECT set_config(name, 'off', false) FROM unnest(ARRAY['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit'])
    AS name

-- name: place_plain
SELECT stale, known, heard FROM sitq.place_plain(
    $1::text[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[],
    $9::smallint, $10::text[], $11::text, $12::bigint)

-- name: start_plain
SELECT slow, now, next, tasks, bodies FROM sitq.start_plain(
    $1::text, $2::text, $3::text[], $4::bigint[], $5::bigint, $6::bigint, $7::text, $8::text[], $9::boolean,
    $10::smallint, $11::bigint)

-- name: settle_plain
SELECT settled, limited, heard FROM sitq.settle_plain(
    $1::bigint[], $2::text[], $3::bytea[], $4::bigint, $5::smallint, $6::text[], $7::text, $8::bigint)

-- name: renew
SELECT id, token, stop FROM sitq.renew($1::text[], $2::text[], $3::bigint, $4::bigint)

-- name: swap
SELECT sitq.swap($1::text, $2::bytea, $3::bytea, $4::bigint, $5::bigint)

-- name: append
SELECT sitq.append($1::text, $2::bytea[], $3::bigint, $4::bigint, $5::text)

-- name: heard
SELECT sitq.heard($1::text[], $2::text)

-- name: tell
-- A hint need not survive anything. So this commit waits for no disk while it holds the lock that all notifications of
-- the server take turns with.
SELECT pg_notify($1::text, p) FROM set_config('synchronous_commit', 'off', true) AS c, unnest($2::text[]) AS p

-- name: instant
SELECT sitq.instant(NULL)

-- name: register
INSERT INTO sitq.listener (topic, process, until)
SELECT t, $1::text, clock_timestamp() + $3::double precision * interval '1 second' FROM unnest($2::text[]) AS t
ON CONFLICT (topic, process) DO UPDATE SET until = excluded.until

-- name: unregister
DELETE FROM sitq.listener WHERE process = $1::text AND NOT topic = ANY ($2::text[])

-- name: drop_old_listeners
DELETE FROM sitq.listener WHERE until < clock_timestamp()

-- name: has_inbox
SELECT EXISTS (SELECT 1 FROM sitq.inbox)

-- name: empty_inbox
DELETE FROM sitq.inbox WHERE number IN (SELECT number FROM sitq.inbox ORDER BY number LIMIT $1::bigint)
RETURNING number, tasks

-- name: version
SELECT value FROM sitq.meta WHERE key = 'schema'

-- name: set_version
INSERT INTO sitq.meta AS m (key, value) VALUES ('schema', $1::bigint)
ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: has_schema
SELECT to_regclass($1::text) IS NOT NULL
