"""Each saboteur takes away one line that keeps a promise, and names the test that has to notice."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY = "tests/conformance/test_memory.py::TestMemory::test_"
SQLITE = "tests/conformance/test_sqlite.py::TestFile::test_"

POSTGRES = "tests/conformance/test_postgres.py::TestPostgres::test_"
REDIS = "tests/conformance/test_redis.py::TestRedis::test_"

POWER = "tests/crash/test_crash_images.py::test_after_a_power_loss_all_that_was_acknowledged_is_there[1]"


@dataclass(frozen=True)
class Saboteur:
    """One change of the source.

    Attributes:
        name: What it takes away.
        file: Where, below `src/sitq`.
        old: The text that is there, exactly once.
        new: What stands there instead.
        test: The test that was written for it.
    """

    name: str
    file: str
    old: str
    new: str
    test: str


SABOTEURS = [
    Saboteur(
        "memory: the fence of a settle",
        "backends/memory/changes.py",
        "    elif not _runs_under(record, move.token):\n        return rules.already_said(record, move)\n",
        "    elif record.state is not State.RUNNING:\n        return rules.already_said(record, move)\n",
        MEMORY + "a_word_under_a_wrong_token_is_lost_and_changes_nothing",
    ),
    Saboteur(
        "SQLite: the fence of a settle",
        "backends/tables/changes.py",
        "    elif not _runs_under(row, move.token):\n        return _already_said(row, move)\n",
        "    elif row.stage != RUNNING:\n        return _already_said(row, move)\n",
        SQLITE + "a_word_under_a_wrong_token_is_lost_and_changes_nothing",
    ),
    Saboteur(
        "memory: the fence of a retry and a release",
        "backends/memory/changes.py",
        "    if not _runs_under(record, move.token):\n        return rules.already_said(record, move)\n",
        "    if record.state is not State.RUNNING:\n        return rules.already_said(record, move)\n",
        MEMORY + "a_word_under_a_wrong_token_is_lost_and_changes_nothing",
    ),
    Saboteur(
        "memory: the fence of a renewal",
        "backends/memory/changes.py",
        "if record is None or not _runs_under(record, lease.token):",
        "if record is None or record.state is not State.RUNNING:",
        MEMORY + "a_lease_under_a_wrong_token_is_lost",
    ),
    Saboteur(
        "SQLite: the log is checkpointed while it is written",
        "backends/sqlite/checkpoint.py",
        "self._pages += 6 + rows // 3",
        "self._pages = 0",
        "tests/integration/test_sqlite_log.py::test_the_log_starts_anew_while_it_is_written",
    ),
    Saboteur(
        "SQLite: the fence of a renewal",
        "backends/sqlite/write.sql",
        "ON t.id = j.value ->> 0 AND t.token = j.value ->> 1 AND t.stage = 3",
        "ON t.id = j.value ->> 0 AND t.stage = 3",
        SQLITE + "a_lease_under_a_wrong_token_is_lost",
    ),
    Saboteur(
        "SQLite: BEGIN IMMEDIATE",
        "backends/sqlite/connection.py",
        'self.raw.execute("BEGIN IMMEDIATE")',
        'self.raw.execute("BEGIN")',
        "tests/regress/test_sqlite_commits.py::"
        "test_a_writer_has_the_database_for_itself_from_the_beginning_of_its_transaction",
    ),
    Saboteur(
        "SQLite: synchronous=FULL",
        "backends/sqlite/connection.py",
        'execute(f"PRAGMA synchronous = {synchronous}")',
        'execute("PRAGMA synchronous = NORMAL")',
        "tests/regress/test_sqlite_commits.py::test_every_connection_that_writes_waits_for_the_disk",
    ),
    Saboteur(
        "SQLite: the sync of a commit",
        "backends/sqlite/connection.py",
        'execute(f"PRAGMA synchronous = {synchronous}")',
        'execute("PRAGMA synchronous = OFF")',
        POWER,
    ),
    Saboteur(
        "SQLite: an answer comes after the sync of its commit",
        "backends/sqlite/writer.py",
        "            counts.write(self.db)\n        return outcomes, topics\n",
        "            counts.write(self.db)\n            _tell(outcomes)\n        return outcomes, topics\n",
        POWER,
    ),
    Saboteur(
        "SQLite: the syncs of a checkpoint",
        "backends/sqlite/checkpoint.py",
        '        db.raw.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()\n',
        '        db.raw.execute("PRAGMA synchronous = OFF")\n'
        '        db.raw.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()\n'
        '        db.raw.execute("PRAGMA synchronous = FULL")\n',
        POWER,
    ),
    Saboteur(
        "SQLite: the jitter between tries for the lock",
        "backends/sqlite/connection.py",
        "time.sleep(pause * (0.5 + random.random()))",
        "time.sleep(pause)",
        "tests/regress/test_sqlite_commits.py::"
        "test_pauses_between_tries_for_the_lock_are_short_and_never_in_step",
    ),
    Saboteur(
        "SQLite: the vigil ends in the middle of a look",
        "backends/sqlite/vigil.py",
        "                if self._closed.is_set():\n                    self._open.set()\n",
        "",
        "tests/integration/test_sqlite_transactions.py::"
        "test_what_watches_for_the_end_of_a_transaction_ends_also_in_the_middle_of_a_look",
    ),
    Saboteur(
        "SQLite: the ring comes after the commit",
        "backends/sqlite/writer.py",
        "        with self.db.writing(polite=self.urgent.is_set):\n            counts = Counts()\n",
        "        with self.db.writing(polite=self.urgent.is_set):\n"
        '            ring(self.path + "-wal")\n'
        "            counts = Counts()\n",
        "tests/regress/test_sqlite_commits.py::"
        "test_others_are_told_of_news_when_they_can_see_it_and_not_before",
    ),
    Saboteur(
        "memory: an attempt is counted when it is claimed",
        "backends/memory/store.py",
        "        record.attempt += 1\n",
        "",
        MEMORY + "each_claim_counts_an_attempt",
    ),
    Saboteur(
        "SQLite: an attempt is counted when it is claimed",
        "backends/sqlite/write.sql",
        "stage = 3, attempt = attempt + 1, token",
        "stage = 3, attempt = max(attempt, 1), token",
        SQLITE + "each_claim_counts_an_attempt",
    ),
    Saboteur(
        "memory: a lease that ran out is counted as a crash",
        "backends/memory/upkeep.py",
        "    record.crashes += 1\n",
        "",
        MEMORY + "a_death_is_counted_and_recorded",
    ),
    Saboteur(
        "memory: a lease must have run out to be claimed",
        "backends/memory/upkeep.py",
        "lapsed += [end for end in ends if end[0] <= now]",
        "lapsed += ends",
        MEMORY + "the_end_of_one_lease_leaves_those_of_the_same_claim_alone",
    ),
    Saboteur(
        "SQLite: a caller that was cancelled is passed over",
        "backends/sqlite/backend.py",
        "        if future.done():  # its waiter was cancelled\n            return\n",
        "",
        "tests/regress/test_lost_words.py::"
        "test_a_caller_that_was_cancelled_takes_no_answer_of_others_along[sqlite]",
    ),
    Saboteur(
        "a caller that was cancelled is passed over in its batch",
        "coalesce.py",
        "            if not future.done():\n                future.set_result(answer)\n",
        "            future.set_result(answer)\n",
        "tests/regress/test_lost_words.py::"
        "test_a_producer_that_was_cancelled_takes_no_answer_of_others_along[sqlite]",
    ),
    Saboteur(
        "the poison limit",
        "policy/crash.py",
        'return "condemned" if is_condemned(record.crashes, record.alone) else "suspect"',
        'return "suspect"',
        "tests/integration/test_leases_of_tasks.py::"
        "test_only_deaths_while_it_ran_alone_quarantine_a_task[memory]",
    ),
    Saboteur(
        "a suspect runs alone",
        "worker/shift.py",
        "                    self._suspects.append(run)\n",
        "                    self._runs.start(run)\n",
        "tests/integration/test_leases_of_tasks.py::"
        "test_a_task_that_was_there_at_several_deaths_runs_alone[memory]",
    ),
    Saboteur(
        "a run alone that is noted twice counts once",
        "backends/memory/changes.py",
        "        record.alone = move.alone\n    return True",
        "        record.alone += 1\n    return True",
        MEMORY + "a_note_of_a_run_alone_that_is_said_twice_counts_once",
    ),
    Saboteur(
        "the signature is verified",
        "envelope.py",
        "    if not hmac.compare_digest(expected, data[end:]):\n",
        "    if len(data) - end != _SEAL_BYTES:\n",
        "tests/unit/test_envelope.py::test_no_bit_of_a_signed_envelope_can_be_changed",
    ),
    Saboteur(
        "the purpose is bound by the signature",
        "keys.py",
        "_prepare(hkdf(self._secrets[key_id], _SALT, purpose.encode()))",
        '_prepare(hkdf(self._secrets[key_id], _SALT, b""))',
        "tests/unit/test_keys.py::test_purposes_keys_and_data_all_change_the_signature",
    ),
    Saboteur(
        "the task is bound by its envelope",
        "envelope.py",
        '    _compare("task", task_id, found.task_id, task_id)\n',
        "",
        "tests/unit/test_envelope.py::test_a_payload_moved_from_elsewhere_is_refused",
    ),
    Saboteur(
        "a pickle that nobody signed is not loaded from a store of others",
        "envelope.py",
        "                elif not trusted and likely not in SAFE_CODECS:\n"
        "                    raise _distrust(purpose, likely, task_id)\n",
        "",
        "tests/unit/test_codec.py::test_an_untrusted_pickle_executes_nothing",
    ),
    Saboteur(
        "a claim without an answer is repeated under its id",
        "worker/claim.py",
        "want = msgspec.structs.replace(want, reclaim=False)",
        "want = msgspec.structs.replace(want, reclaim=False, claim=token())",
        "tests/regress/test_lost_words.py::"
        "test_a_claim_whose_answer_was_lost_is_repeated_and_loses_nothing[memory]",
    ),
    Saboteur(
        "what a claim took that was cut short is handed back",
        "worker/shift.py",
        "        for record in await within(CLEAN_UP, self._claims.recover(), []):\n",
        "        for record in ():\n",
        "tests/regress/test_lost_words.py::"
        "test_what_a_claim_took_is_handed_back_when_the_worker_stops_before_the_answer[memory]",
    ),
    Saboteur(
        "a lease is renewed until its outcome is settled",
        "worker/settle.py",
        "        self._waiting.append((run, verdict))\n",
        "        self._waiting.append((run, verdict))\n        self._settled([(run, verdict)], [True])\n",
        "tests/regress/test_unreliable_store.py::"
        "test_a_task_whose_outcome_does_not_come_through_is_not_run_by_others[memory]",
    ),
    Saboteur(
        "outcomes wait for a store that is away",
        "worker/settle.py",
        "                tries += not away\n",
        "                tries += 1\n",
        "tests/unit/test_settle.py::test_a_store_that_is_away_or_full_is_asked_until_it_is_back[error0]",
    ),
    Saboteur(
        "whose lease was lost is interrupted",
        "worker/runs.py",
        "                run.interrupt(Interruption.LOST)\n            else:\n",
        "                pass\n            else:\n",
        "tests/integration/test_leases_of_tasks.py::"
        "test_a_task_whose_lease_was_lost_is_interrupted_and_its_slot_is_free[memory]",
    ),
    Saboteur(
        "a worker that had lost the store doubts",
        "worker/doubt.py",
        "            if self._away or self._clock() - asked >= self._period:\n                self.begin()\n",
        "",
        "tests/unit/test_doubt.py::test_after_a_failure_the_two_periods_begin_when_the_store_answers_again",
    ),
    Saboteur(
        "a worker doubts while a call hangs",
        "worker/doubt.py",
        "return not late and not self._away",
        "return not self._away",
        "tests/unit/test_doubt.py::"
        "test_a_call_without_an_answer_for_a_period_is_an_outage_while_it_lasts_and_when_it_ends",
    ),
    Saboteur(
        "a claim that was not answered is repeated without the leases of others",
        "worker/claim.py",
        "                want = msgspec.structs.replace(want, reclaim=False)\n",
        "",
        "tests/integration/test_leases_of_tasks.py::"
        "test_after_the_store_was_away_a_worker_claims_no_leases_of_others_at_first[memory]",
    ),
    Saboteur(
        "an idle worker looks though nobody hints",
        "worker/claim.py",
        "longest = self._settings.poll * (0.9 + 0.2 * random.random())",
        "longest = 3600.0",
        "tests/regress/test_lost_words.py::"
        "test_without_any_hint_a_task_starts_and_its_result_arrives[memory]",
    ),
    Saboteur(
        "who waits for a result looks though nobody hints",
        "results.py",
        "_FLOOR: Final = 1.0\n",
        "_FLOOR: Final = 3600.0\n",
        "tests/regress/test_lost_words.py::"
        "test_without_any_hint_a_task_starts_and_its_result_arrives[memory]",
    ),
    Saboteur(
        "memory: the end of a parent takes its effect",
        "backends/memory/store.py",
        "        if record.id in self.family.children:\n            self._spread(record.id, state, now)\n",
        "",
        MEMORY + "a_blocked_task_starts_when_its_parent_completed",
    ),
    Saboteur(
        "memory: a parent is kept for its children",
        "backends/memory/store.py",
        "            and record.id not in self.family.children\n",
        "",
        MEMORY + "a_parent_is_not_purged_before_its_children_have_ended",
    ),
    Saboteur(
        "SQLite: the unique key",
        "backends/tables/admission.py",
        "        holder = self._holder(new.unique.key)\n        if holder is None:\n",
        "        holder = self._holder(new.unique.key)\n        if holder is None or holder:\n",
        SQLITE + "a_key_that_is_held_answers_with_its_holder",
    ),
    Saboteur(
        "SQLite: the room of a queue",
        "backends/tables/admission.py",
        "self._waiting_in(record.queue) >= record.room",
        "self._waiting_in(record.queue) > record.room",
        SQLITE + "a_full_queue_refuses",
    ),
    Saboteur(
        "memory: a group is stored whole or not at all",
        "backends/memory/admission.py",
        "        if isinstance(answer, Refused):\n            return draft.refuse(records, answer)\n",
        "        if isinstance(answer, Refused):\n"
        "            draft.commit()\n"
        "            return draft.refuse(records, answer)\n",
        MEMORY + "a_group_with_one_refused_record_is_not_stored_at_all",
    ),
    Saboteur(
        "memory: an acknowledged stop outlives a retry",
        "backends/memory/changes.py",
        "    if record.stop is None:\n        store.requeue(record, now + move.delay, now)\n",
        "    if record.stop is None or move:\n        store.requeue(record, now + move.delay, now)\n",
        MEMORY + "a_task_that_was_asked_to_stop_does_not_queue_again",
    ),
    Saboteur(
        "a word that is said twice is no fault",
        "backends/rules.py",
        "    after = move.state if isinstance(move, Settle) else State.QUEUED\n",
        "    return False\n    after = move.state if isinstance(move, Settle) else State.QUEUED\n",
        MEMORY + "a_word_said_twice_is_kept_twice_and_takes_effect_once",
    ),
    Saboteur(
        "SQLite: a step within a user's transaction leaves nothing when it fails",
        "backends/sqlite/within.py",
        '            _quietly(cursor, "ROLLBACK TO sitq_within")\n',
        "",
        "tests/integration/test_sqlite_transactions.py::"
        "test_a_statement_that_fails_says_why_and_the_transaction_goes_on_without_its_tasks",
    ),
    Saboteur(
        "SQLite: the commit of a user's transaction is told to other processes",
        "backends/sqlite/vigil.py",
        "        if changed:\n            self._tell()\n",
        "",
        "tests/integration/test_sqlite_transactions.py::test_a_worker_in_another_process_hears_of_commits",
    ),
    Saboteur(
        "SQLite: the file is its owner's alone",
        "backends/sqlite/location.py",
        "os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600",
        "os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644",
        "tests/unit/test_sqlite_errors.py::test_the_file_is_its_owners_alone",
    ),
    Saboteur(
        "SQLite: a reserve for settling on a full disk",
        "backends/sqlite/writer.py",
        "                if not job.vital or not self._use_reserve():\n",
        "                if job:\n",
        "tests/regress/test_sqlite_commits.py::test_on_a_full_disk_outcomes_of_running_tasks_still_find_room",
    ),
    Saboteur(
        "the shield of a result that several wait for",
        "results.py",
        "return await asyncio.shield(wait.ended)",
        "return await wait.ended",
        "tests/unit/test_results.py::test_cancelling_one_who_waits_does_not_touch_another",
    ),
    Saboteur(
        "what a cancelled opening has opened is closed again",
        "backends/opening.py",
        "        if left:\n            drop(one)\n",
        "",
        "tests/integration/test_cancellation.py::"
        "test_opening_and_closing_can_be_cancelled_anywhere[sqlite-before its answer]",
    ),
    Saboteur(
        "a worker that could not begin ends its lease thread",
        "worker/shift.py",
        "            self._keeper.close()\n",
        "",
        "tests/regress/test_stops_midway.py::test_a_worker_that_could_not_start_can_start_later[memory-listen]",
    ),
    Saboteur(
        "SQLite: a lease lasts from the store's now",
        "backends/sqlite/lease.py",
        "renew(self._db, leases, self._engine.clock() + lease)",
        'renew(self._db, leases, __import__("time").time_ns() // 1000 + lease)',
        SQLITE + "a_renewed_lease_lasts_from_the_stores_now",
    ),
    Saboteur(
        "the simulation sees a settle without its fence",
        "backends/memory/changes.py",
        "def _runs_under(record: Record, token: str) -> bool:\n"
        "    return record.state is State.RUNNING and record.token == token\n",
        "def _runs_under(record: Record, token: str) -> bool:\n    return record.state is State.RUNNING\n",
        "tests/simulation/test_simulation.py::test_no_promise_is_broken_in_the_first_seeds[0]",
    ),
    Saboteur(
        "the simulation sees leases that nobody renews",
        "worker/shift.py",
        "        self._keeper.hold([_lease(record) for record in taken.records])\n",
        "",
        "tests/simulation/test_simulation.py::test_no_promise_is_broken_in_the_first_seeds[0]",
    ),
    Saboteur(
        "a run alone is stored before the next one begins",
        "worker/shift.py",
        "while (run.record.id in self._runs.in_flight or self._settler.unsettled) and not self._stopping:",
        "while run.record.id in self._runs.in_flight and not self._stopping:",
        "tests/integration/test_leases_of_tasks.py::"
        "test_the_outcome_of_a_run_alone_is_stored_before_the_next_one_begins[memory]",
    ),
    Saboteur(
        "PostgreSQL: the fence of a settle that goes the short way",
        "backends/postgres/migrations/0001_first.sql",
        "AND t.stage + 0 = 3 AND t.token = m.token AND t.stop IS NULL",
        "AND t.stage + 0 = 3 AND t.stop IS NULL",
        "tests/regress/test_dead_workers.py::"
        "test_the_word_of_a_worker_that_another_process_has_replaced_is_refused[postgres-given back]",
    ),
    Saboteur(
        "PostgreSQL: the fence of a settle that goes the long way",
        "backends/tables/changes.py",
        "    elif not _runs_under(row, move.token):\n        return _already_said(row, move)\n",
        "    elif row.stage != RUNNING:\n        return _already_said(row, move)\n",
        POSTGRES + "a_word_under_a_wrong_token_is_lost_and_changes_nothing",
    ),
    Saboteur(
        "PostgreSQL: the fence of a retry and a release",
        "backends/tables/changes.py",
        "    if not _runs_under(row, move.token):\n        return _already_said(row, move)\n",
        "    if row.stage != RUNNING:\n        return _already_said(row, move)\n",
        POSTGRES + "a_word_under_a_wrong_token_is_lost_and_changes_nothing",
    ),
    Saboteur(
        "PostgreSQL: the fence of a renewal",
        "backends/postgres/migrations/0001_first.sql",
        "JOIN sitq.task AS t ON t.id = ANY (ARRAY[m.id]) AND t.token = m.token AND t.stage + 0 = 3",
        "JOIN sitq.task AS t ON t.id = ANY (ARRAY[m.id]) AND t.stage + 0 = 3",
        "tests/regress/test_dead_workers.py::"
        "test_a_renewal_touches_nothing_that_another_claim_holds_now[postgres]",
    ),
    Saboteur(
        "PostgreSQL: an attempt is counted when it is claimed",
        "backends/postgres/migrations/0001_first.sql",
        "stage = 3, attempt = t.attempt + 1, token = claim_",
        "stage = 3, attempt = greatest(t.attempt, 1), token = claim_",
        POSTGRES + "each_claim_counts_an_attempt",
    ),
    Saboteur(
        "PostgreSQL: a task that is being claimed is locked",
        "backends/postgres/migrations/0001_first.sql",
        "LIMIT n FOR UPDATE SKIP LOCKED",
        "LIMIT n",
        "tests/regress/test_claimed_once.py::test_processes_that_claim_at_once_share_no_task[postgres]",
    ),
    Saboteur(
        "PostgreSQL: what decides has the namespace for itself",
        "backends/postgres/call.sql",
        "SELECT pg_advisory_xact_lock(sitq_lock);\n",
        "SELECT 1;\n",
        POSTGRES + "two_objects_on_one_store_keep_one_count_of_slots",
    ),
    Saboteur(
        "PostgreSQL: who stands still in a transaction is put out of it",
        "backends/postgres/call.sql",
        "SET LOCAL idle_in_transaction_session_timeout = '2s';\n",
        "",
        "tests/regress/test_postgres_conflicts.py::"
        "test_who_dies_or_stands_still_while_it_holds_the_lock_blocks_nobody[SIGSTOP]",
    ),
    Saboteur(
        "PostgreSQL: a claim that is tried again is not over",
        "backends/postgres/backend.py",
        'return await self._do(engine, "claim", action, over=over)',
        'return over() or await self._do(engine, "claim", action)',
        "tests/integration/test_postgres_claims.py::"
        "test_what_a_claim_takes_at_its_second_try_is_found_by_whoever_asks_for_it_again",
    ),
    Saboteur(
        "PostgreSQL: a session that is at work is waited for",
        "backends/postgres/patience.py",
        "if at_work is None or time.monotonic() > asked + LONGEST or not at_work():",
        "if at_work is None or not at_work() or True:",
        "tests/faults/test_silent_postgres.py::test_a_server_that_is_there_is_waited_for_while_it_is_at_work",
    ),
    Saboteur(
        "PostgreSQL: the server's clock decides",
        "backends/postgres/engine.py",
        "        return None if self.clock is None else self.clock()\n",
        "        return time.time_ns() // 1000 if self.clock is None else self.clock()\n",
        "tests/regress/test_long_waits.py::test_the_clock_of_a_server_decides_and_not_that_of_a_host[postgres-3600]",
    ),
    Saboteur(
        "PostgreSQL: a connection without a transaction is refused",
        "backends/postgres/within.py",
        "        if connection.autocommit and status == TransactionStatus.IDLE:\n",
        "        if connection.autocommit and status is None:\n",
        "tests/integration/test_transactions.py::test_a_connection_without_a_transaction_is_refused",
    ),
    Saboteur(
        "Redis: the fence of a settle",
        "backends/redis/lua/changes.lua",
        "  elseif not runs_under(row, token) then\n",
        "  elseif row.state ~= 'r' then\n",
        REDIS + "a_word_under_a_wrong_token_is_lost_and_changes_nothing",
    ),
    Saboteur(
        "Redis: the fence of a settle that goes the short way",
        "backends/redis/lua/plain_apply.lua",
        "row.state ~= 'r' or row.token ~= move[3]\n",
        "row.state ~= 'r'\n",
        "tests/regress/test_dead_workers.py::"
        "test_the_word_of_a_worker_that_another_process_has_replaced_is_refused[redis-given back]",
    ),
    Saboteur(
        "Redis: the fence of a retry and a release",
        "backends/redis/lua/changes.lua",
        "  if not runs_under(row, token) then\n    return already_said(row, token, 'q', packed)\n",
        "  if row.state ~= 'r' then\n    return already_said(row, token, 'q', packed)\n",
        REDIS + "a_word_under_a_wrong_token_is_lost_and_changes_nothing",
    ),
    Saboteur(
        "Redis: the fence of a renewal",
        "backends/redis/lua/renew.lua",
        "row.state == 'r' and row.token == lease[2] then",
        "row.state == 'r' then",
        REDIS + "a_lease_under_a_wrong_token_is_lost",
    ),
    Saboteur(
        "Redis: an attempt is counted when it is claimed the short way",
        "backends/redis/lua/plain_take.lua",
        "(row.attempt or 0) + 1, token",
        "row.attempt or 1, token",
        REDIS + "each_claim_counts_an_attempt",
    ),
    Saboteur(
        "Redis: an attempt is counted when it is claimed",
        "backends/redis/lua/claim.lua",
        "(row.attempt or 0) + 1, want.token",
        "row.attempt or 1, want.token",
        REDIS + "each_claim_counts_an_attempt",
    ),
    Saboteur(
        "Redis: a claim that is repeated takes nothing new",
        "backends/redis/lua/take.lua",
        "if runs_already() then\n  return {now, now, own_ends, answer}\nend\n",
        "",
        REDIS + "a_repeated_claim_takes_nothing_new",
    ),
    Saboteur(
        "Redis: the server's clock decides",
        "backends/redis/link.py",
        '        instant = b"" if self.clock is None else str(self.clock())\n',
        "        instant = str(time.time_ns() // 1000 if self.clock is None else self.clock())\n",
        "tests/regress/test_long_waits.py::test_the_clock_of_a_server_decides_and_not_that_of_a_host[redis-3600]",
    ),
    Saboteur(
        "Redis: with full memory running tasks can still be settled",
        "backends/redis/lua/apply.lua",
        "-- flags    allow-oom\n",
        "",
        "tests/faults/test_redis_server.py::test_with_full_memory_new_tasks_are_refused_and_running_ones_end",
    ),
    Saboteur(
        "Redis: the answer to a caller that was cancelled is read in its turn",
        "backends/redis/wire.py",
        "                answer = due.popleft()\n",
        "                while (answer := due.popleft()).done():\n                    pass\n",
        "tests/faults/test_redis_wire.py::test_answers_of_cancelled_callers_go_to_nobody",
    ),
    Saboteur(
        "Redis: all keys of a namespace are in one slot",
        "backends/redis/link.py",
        '        self.prefix = f"{{{namespace}}}:"\n',
        '        self.prefix = f"{namespace}:"\n',
        "tests/faults/test_redis_server.py::test_all_keys_of_a_namespace_are_in_one_slot",
    ),
    Saboteur(
        "Redis: an index that is missing is noticed",
        "backends/redis/lua/base.lua",
        "  return call('EXISTS', unpack(keys)) == #keys\n",
        "  return true\n",
        "tests/faults/test_redis_indexes.py::test_all_indexes_can_be_lost_at_once",
    ),
]
