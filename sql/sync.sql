-- Sync: a foreign table copied into a table, again and again. This file holds what only SQL can do:
-- what is remembered of a sync, which roles may change and see it, and the procedure that commits.
-- What is done next is decided by the library (crates/pancake/src/sync, src/fdw/sync).

-- ---------------------------------------------------------------------------------------------------------------
-- What is remembered. Readers see it through the views sync_state and sync_runs.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE pancake_internal.sync_marks (
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
COMMENT ON TABLE pancake_internal.sync_marks IS 'what sync_state shows, and by which rows the marks are believed';

CREATE TABLE pancake_internal.sync_skips (
    target          regclass    NOT NULL,
    page_id         text        NOT NULL,
    conversation_id text        NOT NULL,
    since           timestamptz NOT NULL,
    tries           integer     NOT NULL,
    next_try_at     timestamptz NOT NULL,
    last_error      text,
    forgotten       boolean     NOT NULL DEFAULT false, -- its messages were read: sync_sweep deletes the row
    PRIMARY KEY (target, page_id, conversation_id)
);
COMMENT ON TABLE pancake_internal.sync_skips IS 'what sync_skipped shows';

CREATE SEQUENCE pancake_internal.sync_log_run_id_seq;
CREATE TABLE pancake_internal.sync_log (
    run_id       bigint      PRIMARY KEY DEFAULT nextval('pancake_internal.sync_log_run_id_seq'),
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
    error        text
);
CREATE INDEX ON pancake_internal.sync_log (target, page_id) WHERE status = 'running';
CREATE INDEX ON pancake_internal.sync_log (started_at);
ALTER SEQUENCE pancake_internal.sync_log_run_id_seq OWNED BY pancake_internal.sync_log.run_id;
COMMENT ON TABLE pancake_internal.sync_log IS 'what sync_runs shows';

-- ---------------------------------------------------------------------------------------------------------------
-- Whose rows these are. A policy is checked with the rights of current_user, in each statement that
-- reaches the tables. An index function that ANALYZE or an autovacuum worker runs has those of the
-- table's owner, a SECURITY DEFINER function those of its own owner, for example of the
-- administrator who wrote it. So all of a sync is executed with the rights of its caller: inside a
-- SECURITY DEFINER function of the extension the caller could not be determined. A target that is
-- gone gives NULL, which admits no role.
-- ---------------------------------------------------------------------------------------------------------------
ALTER TABLE pancake_internal.sync_marks ENABLE ROW LEVEL SECURITY;
ALTER TABLE pancake_internal.sync_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE pancake_internal.sync_skips ENABLE ROW LEVEL SECURITY;

CREATE POLICY readers ON pancake_internal.sync_marks FOR SELECT
    USING (pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR pg_catalog.has_table_privilege(target::oid, 'SELECT'));
CREATE POLICY readers ON pancake_internal.sync_log FOR SELECT
    USING (pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR pg_catalog.has_table_privilege(target::oid, 'SELECT'));
CREATE POLICY readers ON pancake_internal.sync_skips FOR SELECT
    USING (pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR pg_catalog.has_table_privilege(target::oid, 'SELECT'));
-- Marks decide what a run leaves out: only a role that may write the copy may write them.
CREATE POLICY writers ON pancake_internal.sync_marks
    USING (pg_catalog.has_table_privilege(target::oid, 'INSERT'))
    WITH CHECK (pg_catalog.has_table_privilege(target::oid, 'INSERT'));
CREATE POLICY writers ON pancake_internal.sync_log
    USING (pg_catalog.has_table_privilege(target::oid, 'INSERT'))
    WITH CHECK (pg_catalog.has_table_privilege(target::oid, 'INSERT'));
CREATE POLICY writers ON pancake_internal.sync_skips
    USING (pg_catalog.has_table_privilege(target::oid, 'INSERT'))
    WITH CHECK (pg_catalog.has_table_privilege(target::oid, 'INSERT'));

-- INSERT and UPDATE by columns alone, and no DELETE: a role with a privilege on a whole table may
-- LOCK it, and keep every sync of the database waiting. What is to be deleted is marked as such,
-- and sync_sweep deletes it. No role chooses a run_id, because the run that gets that number later
-- would fail.
GRANT SELECT ON pancake_internal.sync_marks, pancake_internal.sync_log, pancake_internal.sync_skips TO PUBLIC;
GRANT INSERT (target, page_id, object, source, mark, backfilled_to, backfill_from, backfill_done, first_since,
              last_success_at, last_reread_at, last_full_rescan_at, last_error_at, last_error, witnesses, sorted,
              known_to),
      UPDATE (object, source, mark, backfilled_to, backfill_from, backfill_done, first_since, last_success_at,
              last_reread_at, last_full_rescan_at, last_error_at, last_error, witnesses, sorted, known_to, forgotten)
    ON pancake_internal.sync_marks TO PUBLIC;
GRANT INSERT (target, page_id, kind, status, started_at, ended_at, seen, inserted, updated, unchanged, removed, requests,
              sqlstate, error),
      UPDATE (status, ended_at, seen, inserted, updated, unchanged, removed, requests, sqlstate, error)
    ON pancake_internal.sync_log TO PUBLIC;
GRANT INSERT (target, page_id, conversation_id, since, tries, next_try_at, last_error),
      UPDATE (since, tries, next_try_at, last_error, forgotten)
    ON pancake_internal.sync_skips TO PUBLIC;
GRANT USAGE ON SEQUENCE pancake_internal.sync_log_run_id_seq TO PUBLIC;

-- A mark without its table would meet another table of the same oid after a restore, and a
-- temporary table is in no restore.
SELECT pg_catalog.pg_extension_config_dump('pancake_internal.sync_marks',
    'WHERE target IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence <> ''t'')
       AND source IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence <> ''t'')');
SELECT pg_catalog.pg_extension_config_dump('pancake_internal.sync_log',
    'WHERE target IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence <> ''t'')');
SELECT pg_catalog.pg_extension_config_dump('pancake_internal.sync_skips',
    'WHERE target IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence <> ''t'')');
SELECT pg_catalog.pg_extension_config_dump('pancake_internal.sync_log_run_id_seq', '');

-- ---------------------------------------------------------------------------------------------------------------
-- Marks and runs: which roles may change them, and how
-- ---------------------------------------------------------------------------------------------------------------
-- Row security leaves out what a role may not change, without a word. This raises the error.
CREATE FUNCTION pancake_internal.sync_check(target regclass) RETURNS void
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
COMMENT ON FUNCTION pancake_internal.sync_check(regclass) IS 'raises unless the caller may write the target';

-- Deletes what belongs to no table any more, whichever role calls it, and therefore takes no
-- argument. A row may be locked by a role that may write it, for as long as that role likes: it is
-- left to a later call. So is what would take long, and what a stricter isolation level would make
-- an error of, because the row has changed since the transaction began.
CREATE FUNCTION pancake_internal.sync_sweep() RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RETURN;
        END IF;
        DELETE FROM pancake_internal.sync_marks d
        WHERE (d.target, d.page_id) IN (
            SELECT m.target, m.page_id FROM pancake_internal.sync_marks m
            WHERE m.forgotten OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = m.target)
            LIMIT 10000 FOR UPDATE OF m SKIP LOCKED);
        DELETE FROM pancake_internal.sync_skips d
        WHERE (d.target, d.page_id, d.conversation_id) IN (
            SELECT s.target, s.page_id, s.conversation_id FROM pancake_internal.sync_skips s
            WHERE s.forgotten OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.target)
            LIMIT 10000 FOR UPDATE OF s SKIP LOCKED);
        DELETE FROM pancake_internal.sync_log d
        WHERE d.run_id IN (
            SELECT l.run_id FROM pancake_internal.sync_log l
            WHERE (l.started_at < now() - interval '30 days' OR l.started_at > now() + interval '1 day')
              AND l.status <> 'running'
            LIMIT 10000 FOR UPDATE OF l SKIP LOCKED);
    END $$;
COMMENT ON FUNCTION pancake_internal.sync_sweep() IS 'deletes marks and skips that are forgotten or without a table, and old runs';

-- The lock by which runs of a lane exclude each other. The library takes it in a form that no SQL
-- can take (src/pg/lock.rs), and holds it from the first step of a page to its last one.
CREATE FUNCTION pancake_internal.sync_lane(target oid, page_id text, lane text) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT hashtextextended(format('%s %s %s', target, lane, page_id), 0) $$;
COMMENT ON FUNCTION pancake_internal.sync_lane(oid, text, text) IS 'the key of the lock of a lane';

-- A backend that was killed records nothing: a run goes on as long as its lane is locked.
CREATE FUNCTION pancake_internal.sync_goes_on(run pancake_internal.sync_log) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT EXISTS (
            SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
            WHERE l.locktype = 'advisory' AND l.objsubid = 3 AND l.granted
              AND (l.classid::bigint << 32) | l.objid::bigint = pancake_internal.sync_lane(
                  run.target::oid, run.page_id, CASE run.kind WHEN 'full' THEN 'full' ELSE 'delta' END))
    $$;
COMMENT ON FUNCTION pancake_internal.sync_goes_on(pancake_internal.sync_log) IS 'whether a run is made at this moment';

CREATE FUNCTION pancake_internal.sync_broken(run pancake_internal.sync_log) RETURNS pancake_internal.sync_log
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        run.status := 'failed';
        run.sqlstate := '57P01';
        run.error := 'the statement that ran it ended before it did';
        RETURN run;
    END $$;
COMMENT ON FUNCTION pancake_internal.sync_broken(pancake_internal.sync_log) IS 'a run of which nothing was left to say how it ended';

-- A run that is under way finds its marks gone at its next step, and begins anew.
CREATE FUNCTION sync_reset(target regclass, page_id text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$
    BEGIN
        PERFORM pancake_internal.sync_check(target);
        -- The sweep may leave the row to a later one. Until then a sync begins in it as in a new
        -- row.
        UPDATE pancake_internal.sync_marks m
        SET forgotten = true, mark = NULL, backfilled_to = NULL, backfill_done = false, last_success_at = NULL,
            last_reread_at = NULL, last_full_rescan_at = NULL, last_error_at = NULL, last_error = NULL,
            witnesses = NULL, sorted = false, known_to = NULL
        WHERE m.target = sync_reset.target AND m.page_id = coalesce(sync_reset.page_id, m.page_id);
        UPDATE pancake_internal.sync_skips s SET forgotten = true
        WHERE s.target = sync_reset.target AND s.page_id = coalesce(sync_reset.page_id, s.page_id);
        PERFORM pancake_internal.sync_sweep();
    END $$;
COMMENT ON FUNCTION sync_reset(regclass, text) IS 'forgets how far a target is synced: the next sync reads everything again';

-- ---------------------------------------------------------------------------------------------------------------
-- What can be seen of it. Members of pg_monitor see every target, others those that they may read.
-- ---------------------------------------------------------------------------------------------------------------
-- The policies show a role also what it may write, and hold for no role with BYPASSRLS.
CREATE FUNCTION pancake_internal.sync_is_visible(target regclass) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT coalesce(pg_has_role('pg_monitor', 'USAGE') OR has_table_privilege(target::oid, 'SELECT'), false)
    $$;
COMMENT ON FUNCTION pancake_internal.sync_is_visible(regclass) IS 'whether a target is shown to the reader of a view';

-- A view reads its tables with the rights of its owner, but calls functions with those of
-- current_user.
CREATE FUNCTION pancake_internal.visible_sync_state() RETURNS SETOF pancake_internal.sync_marks
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$ SELECT m.* FROM pancake_internal.sync_marks m WHERE NOT m.forgotten AND pancake_internal.sync_is_visible(m.target) $$;
COMMENT ON FUNCTION pancake_internal.visible_sync_state() IS 'what sync_state shows';
CREATE VIEW sync_state AS
    SELECT target, page_id, object, source, mark, backfilled_to, backfill_done, last_success_at, last_reread_at,
           last_full_rescan_at, last_error_at, last_error
    FROM pancake_internal.visible_sync_state();
COMMENT ON VIEW sync_state IS 'how far each page is synced into each target';

CREATE FUNCTION pancake_internal.visible_sync_runs() RETURNS SETOF pancake_internal.sync_log
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$
        SELECT (r.run).*
        FROM (SELECT CASE WHEN l.status = 'running' AND NOT pancake_internal.sync_goes_on(l)
                  THEN pancake_internal.sync_broken(l) ELSE l END AS run
              FROM pancake_internal.sync_log l WHERE pancake_internal.sync_is_visible(l.target) OFFSET 0) r
    $$;
COMMENT ON FUNCTION pancake_internal.visible_sync_runs() IS 'what sync_runs shows';
CREATE VIEW sync_runs AS
    SELECT run_id, target, page_id, kind, status, started_at, ended_at, seen, inserted, updated, unchanged, removed,
           requests, sqlstate, error
    FROM pancake_internal.visible_sync_runs();
COMMENT ON VIEW sync_runs IS 'the syncs of the last 30 days: what they did, and how they ended';

CREATE FUNCTION pancake_internal.visible_sync_skips() RETURNS SETOF pancake_internal.sync_skips
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp SET row_security = on
    AS $$ SELECT s.* FROM pancake_internal.sync_skips s WHERE NOT s.forgotten AND pancake_internal.sync_is_visible(s.target) $$;
COMMENT ON FUNCTION pancake_internal.visible_sync_skips() IS 'what sync_skipped shows';
CREATE VIEW sync_skipped AS
    SELECT target, page_id, conversation_id, since, tries, last_error FROM pancake_internal.visible_sync_skips();
COMMENT ON VIEW sync_skipped IS 'conversations whose messages could not be had, and which sync tries again';

GRANT SELECT ON sync_state, sync_runs, sync_skipped TO PUBLIC;

-- ---------------------------------------------------------------------------------------------------------------
-- What the procedure and the statements of a step call
-- ---------------------------------------------------------------------------------------------------------------
-- 80 replies. A function, so that tests can make batches small.
CREATE FUNCTION pancake_internal.sync_batch_rows() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT (80 * 59 + 1)::bigint';
COMMENT ON FUNCTION pancake_internal.sync_batch_rows() IS 'how many rows a batch holds';

CREATE FUNCTION pancake_internal.sync_server_time() RETURNS timestamptz
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_server_time_wrapper';
COMMENT ON FUNCTION pancake_internal.sync_server_time() IS
    'when the last reply left Pancake; a row of a later time is dated ahead';

CREATE FUNCTION pancake_internal.sync_head(
        kind anyelement, list text, unlike text, most bigint, is_delta boolean,
        OUT rows anyarray, OUT ids text[], OUT times timestamptz[], OUT due boolean[],
        OUT lowest timestamptz, OUT newest timestamptz) RETURNS SETOF record
    LANGUAGE c VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp
    SET pancake_fdw.order_by = 'updated_at' SET pancake_fdw.max_concurrency = 1
    AS 'MODULE_PATHNAME', 'pancake_fdw_sync_head_wrapper';
COMMENT ON FUNCTION pancake_internal.sync_head(anyelement, text, text, bigint, boolean) IS 'reads the head of a list';

CREATE FUNCTION pancake_internal.sync_write(
        batch anyarray, ids text[], witnesses text[], look text, changed text, upsert text,
        OUT alive boolean, OUT existing bigint, OUT changed bigint, OUT written bigint) RETURNS SETOF record
    LANGUAGE c VOLATILE ROWS 1
    AS 'MODULE_PATHNAME', 'pancake_fdw_sync_write_wrapper';
COMMENT ON FUNCTION pancake_internal.sync_write(anyarray, text[], text[], text, text, text) IS 'writes a batch';

-- A row of one page would silently become another page's.
CREATE FUNCTION pancake_internal.sync_clash(id text, page_id text, other_page_id text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        RAISE unique_violation USING
            MESSAGE = format('row %s of page %s has the id of a row of page %s', quote_literal(id), other_page_id, page_id),
            HINT = 'Give the target the key (page_id, id) instead of (id), or each page a target of its own.';
    END $$;
COMMENT ON FUNCTION pancake_internal.sync_clash(text, text, text) IS 'raises if two pages have rows of one id';

CREATE FUNCTION pancake_internal.sync_open(
        source regclass, target text, lookback interval, reread interval, reread_every interval, full_rescan boolean,
        wait interval, first_since timestamptz) RETURNS text[]
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_sync_open_wrapper';
COMMENT ON FUNCTION pancake_internal.sync_open(regclass, text, interval, interval, interval, boolean, interval, timestamptz)
    IS 'reads the arguments of a sync; returns the statements that create a missing target';

CREATE FUNCTION pancake_internal.sync_created(target regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pancake_fdw_sync_created_wrapper';
COMMENT ON FUNCTION pancake_internal.sync_created(regclass) IS 'checks a target that was created';

CREATE FUNCTION pancake_internal.sync_start(target regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pancake_fdw_sync_start_wrapper';
COMMENT ON FUNCTION pancake_internal.sync_start(regclass) IS 'starts the sync of all pages';

CREATE FUNCTION pancake_internal.sync_step() RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_sync_step_wrapper';
COMMENT ON FUNCTION pancake_internal.sync_step() IS 'prepares or executes a step of a page; returns whether there are more';

CREATE FUNCTION pancake_internal.sync_failed(sqlstate text, message text, detail text, hint text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'pancake_fdw_sync_failed_wrapper';
COMMENT ON FUNCTION pancake_internal.sync_failed(text, text, text, text) IS
    'records the error that ended a step; returns whether there are more';

CREATE FUNCTION pancake_internal.sync_outcome(OUT sqlstate text, OUT message text, OUT detail text, OUT hint text)
        RETURNS SETOF record
    LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'pancake_fdw_sync_outcome_wrapper';
COMMENT ON FUNCTION pancake_internal.sync_outcome() IS 'the error that a sync ends with';

-- RAISE takes no empty DETAIL or HINT for none.
CREATE FUNCTION pancake_internal.sync_raise(state text, message text, detail text, hint text) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        IF detail <> '' AND hint <> '' THEN
            RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message, DETAIL = detail, HINT = hint;
        ELSIF detail <> '' THEN
            RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message, DETAIL = detail;
        ELSIF hint <> '' THEN
            RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message, HINT = hint;
        END IF;
        RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message;
    END $$;
COMMENT ON FUNCTION pancake_internal.sync_raise(text, text, text, text) IS 'raises an error that happened before';

CREATE PROCEDURE sync(
        source regclass, target text, lookback interval DEFAULT '10 minutes', reread interval DEFAULT '1 day',
        reread_every interval DEFAULT '1 hour', full_rescan boolean DEFAULT false, wait interval DEFAULT NULL,
        first_since timestamptz DEFAULT NULL)
    LANGUAGE plpgsql
    AS $$
    DECLARE
        definition CONSTANT text[] := pancake_internal.sync_open(
            source, target, lookback, reread, reread_every, full_rescan, wait, first_since);
        statement text;
        goes_on boolean;
        state text;
        message text;
        detail text;
        hint text;
    BEGIN
        IF definition IS NOT NULL THEN
            BEGIN
                FOREACH statement IN ARRAY definition LOOP
                    EXECUTE statement;
                END LOOP;
                PERFORM pancake_internal.sync_created(target::pg_catalog.regclass);
            -- Another call has created it meanwhile.
            EXCEPTION WHEN duplicate_table OR unique_violation THEN
            END;
        END IF;
        PERFORM pancake_internal.sync_start(target::pg_catalog.regclass);
        LOOP
            COMMIT;
            -- Under a stricter level a webhook that writes the same row would end the run.
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            BEGIN
                goes_on := pancake_internal.sync_step();
            EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
                GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                    detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
                goes_on := pancake_internal.sync_failed(state, message, detail, hint);
            END;
            EXIT WHEN NOT goes_on;
        END LOOP;
        COMMIT;
        PERFORM pancake_internal.sync_raise(o.sqlstate, o.message, o.detail, o.hint) FROM pancake_internal.sync_outcome() o;
    END $$;
COMMENT ON PROCEDURE sync(regclass, text, interval, interval, interval, boolean, interval, timestamptz) IS
    'copies a foreign table into a table: the first time everything, then what has changed';
