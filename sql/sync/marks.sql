-- Sync: a foreign table copied into a table, again and again. This file holds what is remembered of
-- it: marks and runs, which roles may change them, and which see them. What a step reads and writes
-- is left to batch.sql, which step comes next to steps.sql.
--
-- A *job* is one page that is copied: a value of type sync_job. A *step* of it is prepared in one
-- transaction: sync_prepare returns which statement comes next, and its rows are read ahead. In a
-- later one the procedure executes the statement as its caller, and sync_settle moves the marks by
-- what it brought; these commit together. So a job that is killed at any moment has done some whole
-- steps, and the marks show which.
--
-- A procedure that commits can neither be SECURITY DEFINER nor carry a SET clause. So it decides
-- nothing: decisions are in functions with a search_path of their own, and what is executed under
-- the caller's search_path is spelt out in full, operators included. All of it runs with the rights
-- of current_user: see the policies below.

-- ---------------------------------------------------------------------------------------------------------------
-- What is remembered. Readers see it through the views sync_state and sync_runs.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE sync_marks (
    target              regclass    NOT NULL,
    page_id             text        NOT NULL,
    object              text        NOT NULL,
    source              regclass    NOT NULL,
    mark                timestamptz,                        -- the newest time in the first reply of a run
    backfilled_to       timestamptz,                        -- down to this inserted_at all has been read
    backfill_from       timestamptz,                        -- down to this inserted_at it will be; NULL: to the end
    backfill_done       boolean     NOT NULL DEFAULT false,
    first_since         timestamptz,                        -- what is older is not wanted
    last_success_at     timestamptz,
    last_reread_at      timestamptz,
    last_full_rescan_at timestamptz,
    last_error_at       timestamptz,
    last_error          text,
    witnesses           text[],                             -- ids of the newest row, one between, the oldest
    sorted              boolean     NOT NULL DEFAULT false, -- the backfill's last batch was read by a Sort
    known_to            timestamptz,                        -- of threads, where that is before a delta begins: see there
    forgotten           boolean     NOT NULL DEFAULT false, -- reset: sync_sweep deletes the row
    PRIMARY KEY (target, page_id)
);
COMMENT ON TABLE sync_marks IS 'internal: what sync_state shows, and by which rows the marks are believed';

CREATE SEQUENCE sync_log_run_id_seq;
CREATE TABLE sync_log (
    run_id       bigint      PRIMARY KEY DEFAULT nextval('pancake.sync_log_run_id_seq'),
    target       regclass    NOT NULL,
    page_id      text        NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('backfill', 'delta', 'reread', 'full')),
    status       text        NOT NULL CHECK (status IN ('running', 'ok', 'skipped', 'failed')),
    started_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    seen         bigint      NOT NULL DEFAULT 0,
    inserted     bigint      NOT NULL DEFAULT 0,
    updated      bigint      NOT NULL DEFAULT 0,
    unchanged    bigint      NOT NULL DEFAULT 0,
    removed      bigint      NOT NULL DEFAULT 0,
    requests     bigint      NOT NULL DEFAULT 0,
    sqlstate     text,
    error        text,
    -- The statement that runs it. Only the defaults are ever inserted: no role can name another's
    -- statement.
    pid          integer     NOT NULL DEFAULT pg_catalog.pg_backend_pid(),
    statement_at timestamptz NOT NULL DEFAULT pg_catalog.statement_timestamp()
);
CREATE INDEX ON sync_log (target, page_id) WHERE status = 'running';
CREATE INDEX ON sync_log (started_at);
ALTER SEQUENCE sync_log_run_id_seq OWNED BY sync_log.run_id;
COMMENT ON TABLE sync_log IS 'internal: what sync_runs shows, and who runs it';

-- ---------------------------------------------------------------------------------------------------------------
-- Whose rows these are. A policy is checked with the rights of current_user, in each statement that
-- reaches the tables. An index function that ANALYZE or an autovacuum worker runs has those of the
-- table's owner, a SECURITY DEFINER function those of its own owner, for example of the
-- administrator who wrote it. So the functions of a sync are SECURITY INVOKER: inside a SECURITY
-- DEFINER function of the extension the caller could not be determined. A target that is gone gives
-- NULL, which admits no role.
-- ---------------------------------------------------------------------------------------------------------------
ALTER TABLE sync_marks ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync_log ENABLE ROW LEVEL SECURITY;

CREATE POLICY readers ON sync_marks FOR SELECT
    USING (pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR pg_catalog.has_table_privilege(target::oid, 'SELECT'));
CREATE POLICY readers ON sync_log FOR SELECT
    USING (pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR pg_catalog.has_table_privilege(target::oid, 'SELECT'));
-- Marks decide what a run leaves out: only a role that may write the copy may write them.
CREATE POLICY writers ON sync_marks
    USING (pg_catalog.has_table_privilege(target::oid, 'INSERT'))
    WITH CHECK (pg_catalog.has_table_privilege(target::oid, 'INSERT'));
CREATE POLICY writers ON sync_log
    USING (pg_catalog.has_table_privilege(target::oid, 'INSERT'))
    WITH CHECK (pg_catalog.has_table_privilege(target::oid, 'INSERT'));

-- INSERT and UPDATE by columns alone, and no DELETE: a role with a privilege on a whole table may
-- LOCK it, and keep every sync of the database waiting. What is to be deleted is marked as such,
-- and sync_sweep deletes it. No role chooses a run_id, because the run that gets that number later
-- would fail.
GRANT SELECT ON sync_marks, sync_log TO PUBLIC;
GRANT INSERT (target, page_id, object, source, mark, backfilled_to, backfill_from, backfill_done, first_since,
              last_success_at, last_reread_at, last_full_rescan_at, last_error_at, last_error, witnesses, sorted,
              known_to),
      UPDATE (object, source, mark, backfilled_to, backfill_from, backfill_done, first_since, last_success_at,
              last_reread_at, last_full_rescan_at, last_error_at, last_error, witnesses, sorted, known_to, forgotten)
    ON sync_marks TO PUBLIC;
GRANT INSERT (target, page_id, kind, status, started_at, ended_at, seen, inserted, updated, unchanged, removed, requests,
              sqlstate, error),
      UPDATE (status, ended_at, seen, inserted, updated, unchanged, removed, requests, sqlstate, error)
    ON sync_log TO PUBLIC;
GRANT USAGE ON SEQUENCE sync_log_run_id_seq TO PUBLIC;

-- A mark without its table would meet another table of the same oid after a restore, and no restore
-- knows a temporary table.
SELECT pg_catalog.pg_extension_config_dump('sync_marks',
    'WHERE target IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence <> ''t'')
       AND source IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence <> ''t'')');
SELECT pg_catalog.pg_extension_config_dump('sync_log',
    'WHERE target IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence <> ''t'')');
SELECT pg_catalog.pg_extension_config_dump('sync_log_run_id_seq', '');

CREATE TYPE sync_job AS (
    source regclass, target regclass, page_id text, object text,
    lookback interval, reread interval, reread_every interval, full_rescan boolean, patience interval,
    first_since timestamptz,
    frozen      text[],       -- conversations that show a time before first_since, and have moved after it
    list        regclass,     -- of threads: the table of conversations
    asked_at    timestamptz,  -- when the procedure was called
    resumes     boolean,      -- a backfill goes on that another call began: what changed since comes after it
    phase       text,         -- what the next step does
    lane        text,         -- delta or full: one run of each at a time
    kind        text,         -- of the run, as sync_runs names it
    run_id      bigint,
    began_at    timestamptz,  -- of the run
    since       timestamptz,  -- where a delta begins
    known_to    timestamptz,  -- of threads: before this a stored message has no unstored one before it
    newest      timestamptz,  -- the newest time of the run's first reply
    high        timestamptz,  -- where the next batch begins
    low         timestamptz,  -- where the last one ends
    dated       boolean,      -- the batch before was read of a list whose rows all have their place
    seam        text[],       -- conversations that the batch before has read there
    batch       bigint,       -- rows of the next batch, if rows are counted
    edge        timestamptz,  -- where the next batch ends, if it is a slice of time
    span        interval,     -- how long that slice is
    read_at     timestamptz,  -- no row of this phase was read before
    census      bigint,       -- rows of the target that a full rescan looks for
    requests    bigint,       -- of this backend, before the step
    made        bigint,       -- while it was prepared
    statement   text,         -- of the step that is prepared
    reading     text,         -- the query in it that reads the source, if there is one
    pause       boolean,      -- another run is busy: wait before the next step
    is_alone    boolean       -- the call is for one page
);
COMMENT ON TYPE sync_job IS 'internal: a page that is being copied';

CREATE TYPE sync_result AS (
    alive boolean, seen bigint, existing bigint, written bigint, ids text[], lowest timestamptz, newest timestamptz,
    walked bigint,            -- rows of the list that was walked
    seam text[]               -- of threads: the conversations that the next batch begins with, too
);
COMMENT ON TYPE sync_result IS 'internal: what a step brought';

-- ---------------------------------------------------------------------------------------------------------------
-- What only the library knows
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION sync_may_commit() RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_may_commit_wrapper';
COMMENT ON FUNCTION sync_may_commit() IS 'internal: whether the procedure that asks may commit';

CREATE FUNCTION sync_ahead(step integer, reading text) RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_sync_ahead_wrapper';
COMMENT ON FUNCTION sync_ahead(integer, text) IS 'internal: begins the scans of a step, whose rows a later statement takes';

CREATE FUNCTION sync_ready() RETURNS integer
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_sync_ready_wrapper';
COMMENT ON FUNCTION sync_ready() IS 'internal: waits for the rows of a step that was begun; NULL where there is none';

CREATE FUNCTION sync_abandon(step integer) RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_sync_abandon_wrapper';
COMMENT ON FUNCTION sync_abandon(integer) IS 'internal: ends the scans of a step that is not executed any more';

CREATE FUNCTION sync_is_cut() RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_is_cut_wrapper';
COMMENT ON FUNCTION sync_is_cut() IS 'internal: whether the last statement has taken the rows that were at hand, and more follow';

CREATE FUNCTION sync_requests() RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_requests_wrapper';
COMMENT ON FUNCTION sync_requests() IS 'internal: requests that the scans of this session have made';

CREATE FUNCTION sync_server_time() RETURNS timestamptz
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_server_time_wrapper';
COMMENT ON FUNCTION sync_server_time() IS 'internal: when the last reply left Pancake; a row of a later time is dated ahead';

CREATE FUNCTION sync_is_dated(list regclass) RETURNS boolean
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pancake_fdw_is_dated_wrapper';
COMMENT ON FUNCTION sync_is_dated(regclass) IS
    'internal: whether no row of a list was seen far below the place of the inserted_at that it shows';

-- ---------------------------------------------------------------------------------------------------------------
-- Marks and runs: which roles may change them, and how
-- ---------------------------------------------------------------------------------------------------------------

-- Row security leaves out what a role may not change, without a word. This raises the error.
CREATE FUNCTION sync_check(target regclass) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        CASE has_table_privilege(target::oid, 'INSERT')
            WHEN true THEN RETURN;
            WHEN false THEN
                RAISE insufficient_privilege USING MESSAGE = format('permission denied for table %s', target),
                    HINT = format('GRANT SELECT, INSERT, UPDATE ON %s TO %I;', target, current_user);
            ELSE RAISE undefined_table USING MESSAGE = 'the target of this sync does not exist any more';
        END CASE;
    END $$;
COMMENT ON FUNCTION sync_check(regclass) IS 'internal: raises unless the caller may write the target';

-- Deletes what belongs to no table any more, whichever role calls it, and therefore takes no
-- argument. A row may be locked by a role that may write it, for as long as that role likes: it is
-- left to a later call. So is what would take long, and what a stricter isolation level would make
-- an error of, because the row has changed since the transaction began.
CREATE FUNCTION sync_sweep() RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RETURN;
        END IF;
        DELETE FROM pancake.sync_marks d
        WHERE (d.target, d.page_id) IN (
            SELECT m.target, m.page_id FROM pancake.sync_marks m
            WHERE m.forgotten OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = m.target)
            LIMIT 10000 FOR UPDATE OF m SKIP LOCKED);
        DELETE FROM pancake.sync_log d
        WHERE d.run_id IN (
            SELECT l.run_id FROM pancake.sync_log l
            WHERE (l.started_at < now() - interval '30 days' OR l.started_at > now() + interval '1 day')
              AND l.status <> 'running'
            LIMIT 10000 FOR UPDATE OF l SKIP LOCKED);
    END $$;
COMMENT ON FUNCTION sync_sweep() IS 'internal: deletes marks that are forgotten or without a table, and old runs';

CREATE FUNCTION sync_key(target regclass, page_id text, lane text) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT hashtextextended(format('pancake_fdw.sync %s %s %s', target::oid, lane, page_id), 0) $$;
COMMENT ON FUNCTION sync_key(regclass, text, text) IS 'internal: the advisory lock of a lane';

-- A backend that was killed records nothing, nor does a statement that was cancelled between two
-- steps: a run goes on as long as its backend is still in the statement that began it. When another
-- role's statement began is for that role and for monitors to know, so this function runs as its
-- owner; it answers for statements that run a sync and for no others.
CREATE FUNCTION sync_goes_on(pid integer, statement_at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT EXISTS (SELECT FROM pg_stat_activity a
                       WHERE a.pid = sync_goes_on.pid AND a.query_start = sync_goes_on.statement_at
                         AND a.state = 'active')
           AND EXISTS (SELECT FROM pancake.sync_log l
                       WHERE l.pid = sync_goes_on.pid AND l.statement_at = sync_goes_on.statement_at
                         AND l.status = 'running')
    $$;
COMMENT ON FUNCTION sync_goes_on(integer, timestamptz) IS 'internal: whether the statement of a run is still at work';

CREATE FUNCTION sync_broken(run sync_log) RETURNS sync_log
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        run.status := 'failed';
        run.sqlstate := '57P01';
        run.error := 'the statement that ran it ended before it did';
        RETURN run;
    END $$;
COMMENT ON FUNCTION sync_broken(sync_log) IS 'internal: a run of which nothing was left to say how it ended';

-- Two runs of one lane would walk the same window twice. The advisory lock ends with each
-- transaction (a session's lock would survive errors and hide behind a pooler), so between two
-- steps a run is spoken for by its row in the log.
CREATE FUNCTION sync_enter(target regclass, page_id text, lane text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$
    BEGIN
        PERFORM pancake.sync_check(target);
        IF NOT pg_try_advisory_xact_lock(pancake.sync_key(target, page_id, lane)) THEN
            RETURN false;
        END IF;
        RETURN NOT EXISTS (
            SELECT FROM pancake.sync_log l
            WHERE l.target = sync_enter.target AND l.page_id = sync_enter.page_id AND l.status = 'running'
              AND (l.kind = 'full') = (lane = 'full') AND l.pid <> pg_backend_pid() AND pancake.sync_goes_on(l.pid, l.statement_at));
    END $$;
COMMENT ON FUNCTION sync_enter(regclass, text, text) IS
    'internal: takes a lane for this transaction; false where another run is in it';

-- A broken run is closed by the next one of the page, which is alone in its lane.
CREATE FUNCTION sync_start(job sync_job, status text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$
    DECLARE
        run bigint;
        ended timestamptz := CASE WHEN status <> 'running' THEN clock_timestamp() END;
    BEGIN
        PERFORM pancake.sync_check(job.target);
        PERFORM pancake.sync_sweep();
        IF status = 'running' THEN
            UPDATE pancake.sync_log l
            SET (status, ended_at, sqlstate, error) =
                (SELECT b.status, clock_timestamp(), b.sqlstate, b.error FROM pancake.sync_broken(l) b)
            WHERE l.target = job.target AND l.page_id = job.page_id AND l.status = 'running'
              AND ((l.kind = 'full') = (job.lane = 'full')
                   OR NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid));
            INSERT INTO pancake.sync_marks AS m (target, page_id, object, source, first_since, backfill_from)
            VALUES (job.target, job.page_id, job.object, job.source, job.first_since,
                    pancake.sync_floor(job.object, job.first_since))
            ON CONFLICT (target, page_id) DO UPDATE
            SET object = EXCLUDED.object, source = EXCLUDED.source, first_since = EXCLUDED.first_since,
                backfill_from = EXCLUDED.backfill_from, forgotten = false
            -- Of first runs that brought nothing the arguments of the last one apply.
            WHERE m.mark IS NULL OR m.forgotten;
            -- Rows of two pages could not be distinguished.
            IF EXISTS (SELECT FROM pancake.sync_marks m WHERE m.target = job.target AND m.page_id <> job.page_id
                         AND NOT m.forgotten)
                AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = job.target AND a.attname = 'page_id')
            THEN
                RAISE undefined_column USING
                    MESSAGE = format('%s holds another page already, and has no column page_id', job.target);
            END IF;
        END IF;
        INSERT INTO pancake.sync_log AS l (target, page_id, kind, status, started_at, ended_at)
        VALUES (job.target, job.page_id, job.kind, sync_start.status, coalesce(job.began_at, clock_timestamp()), ended)
        RETURNING l.run_id INTO run;
        RETURN run;
    END $$;
COMMENT ON FUNCTION sync_start(sync_job, text) IS 'internal: opens a run in the log';

CREATE FUNCTION sync_log_step(
        run bigint, status text, seen bigint, inserted bigint, updated bigint, removed bigint, requests bigint)
        RETURNS sync_log
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$
    DECLARE
        entry pancake.sync_log;
    BEGIN
        SELECT * INTO entry FROM pancake.sync_log l WHERE l.run_id = run;
        PERFORM pancake.sync_check(entry.target);
        UPDATE pancake.sync_log l
        SET status = sync_log_step.status,
            ended_at = CASE WHEN sync_log_step.status <> 'running' THEN clock_timestamp() END,
            seen = l.seen + sync_log_step.seen,
            inserted = l.inserted + sync_log_step.inserted,
            updated = l.updated + sync_log_step.updated,
            unchanged = l.unchanged + sync_log_step.seen - sync_log_step.inserted - sync_log_step.updated,
            removed = l.removed + sync_log_step.removed,
            requests = l.requests + sync_log_step.requests
        WHERE l.run_id = run
        RETURNING l.* INTO entry;
        RETURN entry;
    END $$;
COMMENT ON FUNCTION sync_log_step(bigint, text, bigint, bigint, bigint, bigint, bigint) IS
    'internal: counts a step in the log';

-- An error that cannot be recorded must not hide the one that happened: a role that may not write
-- the target leaves no trace.
CREATE FUNCTION sync_fail(job sync_job, state text, message text) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$
    BEGIN
        IF has_table_privilege(job.target::oid, 'INSERT') IS NOT TRUE THEN
            RETURN;
        END IF;
        IF job.run_id IS NULL THEN
            job.kind := coalesce(job.kind, CASE WHEN job.full_rescan THEN 'full' ELSE 'delta' END);
            job.run_id := pancake.sync_start(job, 'failed');
        END IF;
        UPDATE pancake.sync_log l
        SET status = 'failed', ended_at = clock_timestamp(), sqlstate = state, error = message,
            requests = l.requests + coalesce(pancake.sync_requests() - job.requests, 0)
        WHERE l.run_id = job.run_id AND l.target = job.target;
        UPDATE pancake.sync_marks m SET last_error_at = clock_timestamp(), last_error = message
        WHERE m.target = job.target AND m.page_id = job.page_id AND NOT m.forgotten;
        IF to_regclass(pancake.sync_census(job)) IS NOT NULL THEN
            EXECUTE format('DROP TABLE %s', pancake.sync_census(job));
        END IF;
    END $$;
COMMENT ON FUNCTION sync_fail(sync_job, text, text) IS 'internal: records the error that ended a run';

-- Read with a lock where they are about to be moved: a delta and a full rescan run beside each
-- other, and both move marks. The lock is taken after the rows of the target, in both, and held for
-- an instant.
CREATE FUNCTION sync_marks_of(job sync_job, to_move boolean) RETURNS sync_marks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$
    DECLARE
        marks pancake.sync_marks;
    BEGIN
        PERFORM pancake.sync_check(job.target);
        IF to_move THEN
            SELECT * INTO marks FROM pancake.sync_marks m
            WHERE m.target = job.target AND m.page_id = job.page_id AND NOT m.forgotten FOR UPDATE;
        ELSE
            SELECT * INTO marks FROM pancake.sync_marks m
            WHERE m.target = job.target AND m.page_id = job.page_id AND NOT m.forgotten;
        END IF;
        RETURN marks;
    END $$;
COMMENT ON FUNCTION sync_marks_of(sync_job, boolean) IS 'internal: the marks of a page in a target';

CREATE FUNCTION sync_remember(marks sync_marks) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$
    BEGIN
        PERFORM pancake.sync_check(marks.target);
        UPDATE pancake.sync_marks m
        SET source = marks.source, mark = marks.mark, backfilled_to = marks.backfilled_to,
            backfill_from = marks.backfill_from, backfill_done = marks.backfill_done,
            first_since = marks.first_since, last_success_at = marks.last_success_at,
            last_reread_at = marks.last_reread_at, last_full_rescan_at = marks.last_full_rescan_at,
            witnesses = marks.witnesses, sorted = coalesce(marks.sorted, false), known_to = marks.known_to
        WHERE m.target = marks.target AND m.page_id = marks.page_id AND NOT m.forgotten;
    END $$;
COMMENT ON FUNCTION sync_remember(sync_marks) IS 'internal: moves the marks';

-- A run that is under way finds its marks gone at its next step, and begins anew.
CREATE FUNCTION sync_reset(target regclass, page_id text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$
    BEGIN
        PERFORM pancake.sync_check(target);
        -- The sweep may leave the row to a later one. Until then a sync begins in it as in a new
        -- row.
        UPDATE pancake.sync_marks m
        SET forgotten = true, mark = NULL, backfilled_to = NULL, backfill_done = false, last_success_at = NULL,
            last_reread_at = NULL, last_full_rescan_at = NULL, last_error_at = NULL, last_error = NULL,
            witnesses = NULL, sorted = false, known_to = NULL
        WHERE m.target = sync_reset.target AND m.page_id = coalesce(sync_reset.page_id, m.page_id);
        PERFORM pancake.sync_sweep();
    END $$;
COMMENT ON FUNCTION sync_reset(regclass, text) IS 'forgets how far a target is synced: the next sync reads everything again';

-- ---------------------------------------------------------------------------------------------------------------
-- What can be seen of it. Members of pg_monitor see every target, others those that they may read.
-- ---------------------------------------------------------------------------------------------------------------
-- The policies show a role also what it may write, and hold for no role with BYPASSRLS.
CREATE FUNCTION sync_is_visible(target regclass) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT coalesce(pg_has_role('pg_monitor', 'USAGE') OR has_table_privilege(target::oid, 'SELECT'), false)
    $$;
COMMENT ON FUNCTION sync_is_visible(regclass) IS 'internal: whether the reader of a view sees a target';

-- A view reads its tables with the rights of its owner, but calls functions with those of
-- current_user.
CREATE FUNCTION visible_sync_state() RETURNS SETOF sync_marks
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$ SELECT m.* FROM pancake.sync_marks m WHERE NOT m.forgotten AND pancake.sync_is_visible(m.target) $$;
COMMENT ON FUNCTION visible_sync_state() IS 'internal: what sync_state shows';
CREATE VIEW sync_state AS
    SELECT target, page_id, object, source, mark, backfilled_to, backfill_done, last_success_at, last_reread_at,
           last_full_rescan_at, last_error_at, last_error
    FROM visible_sync_state();
COMMENT ON VIEW sync_state IS 'how far each page is synced into each target';

CREATE FUNCTION visible_sync_runs() RETURNS SETOF sync_log
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$
        SELECT (r.run).*
        FROM (SELECT CASE WHEN l.status = 'running' AND NOT pancake.sync_goes_on(l.pid, l.statement_at)
                  THEN pancake.sync_broken(l) ELSE l END AS run
              FROM pancake.sync_log l WHERE pancake.sync_is_visible(l.target) OFFSET 0) r
    $$;
COMMENT ON FUNCTION visible_sync_runs() IS 'internal: what sync_runs shows';
CREATE VIEW sync_runs AS
    SELECT run_id, target, page_id, kind, status, started_at, ended_at, seen, inserted, updated, unchanged, removed,
           requests, sqlstate, error
    FROM visible_sync_runs();
COMMENT ON VIEW sync_runs IS 'the syncs of the last 30 days: what they did, and how they ended';

GRANT SELECT ON sync_state, sync_runs TO PUBLIC;
