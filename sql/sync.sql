-- Sync: a foreign table copied into a table, again and again. This file is the second part of the extension's script.
--
-- A *job* is one page that is copied: a value of type sync_job. A *step* is one transaction of it: sync_prepare says
-- which statement comes next, the procedure executes it as its caller, sync_settle moves the marks by what it brought;
-- all of it commits together. So a job that is killed at any moment has done some whole steps, and the marks say which.
--
-- A procedure that commits can neither be SECURITY DEFINER nor carry a SET clause. So it decides nothing: decisions are
-- in functions with a search_path of their own, and what is executed under the caller's search_path is spelt out in
-- full, operators included. Marks and runs are written by SECURITY DEFINER functions that check INSERT on the target.

-- ---------------------------------------------------------------------------------------------------------------
-- What is remembered. Readers see it through the views sync_state and sync_runs.
-- ---------------------------------------------------------------------------------------------------------------
CREATE TABLE sync_marks (
    target              regclass    NOT NULL,
    page_id             text        NOT NULL,
    object              text        NOT NULL,
    source              regclass    NOT NULL,
    mark                timestamptz,                        -- the newest updated_at in the first reply of a run
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
    pid          integer     NOT NULL,                      -- with the next: the statement that runs it
    statement_at timestamptz NOT NULL
);
CREATE INDEX ON sync_log (target, page_id, run_id);
ALTER SEQUENCE sync_log_run_id_seq OWNED BY sync_log.run_id;
COMMENT ON TABLE sync_log IS 'internal: what sync_runs shows, and who runs it';

-- A mark without its table would meet another table of the same oid after a restore.
SELECT pg_catalog.pg_extension_config_dump('sync_marks', 'WHERE target IN (SELECT oid FROM pg_catalog.pg_class)');
SELECT pg_catalog.pg_extension_config_dump('sync_log', 'WHERE target IN (SELECT oid FROM pg_catalog.pg_class)');
SELECT pg_catalog.pg_extension_config_dump('sync_log_run_id_seq', '');

CREATE TYPE sync_job AS (
    source regclass, target regclass, page_id text, object text,
    lookback interval, reread interval, reread_every interval, full_rescan boolean, patience interval,
    first_since timestamptz,
    asked_at    timestamptz,  -- when the procedure was called
    phase       text,         -- what the next step does
    lane        text,         -- delta or full: one run of each at a time
    kind        text,         -- of the run, as sync_runs names it
    run_id      bigint,
    began_at    timestamptz,  -- of the run
    since       timestamptz,  -- where a delta begins
    newest      timestamptz,  -- the newest updated_at of the run's first reply
    high        timestamptz,  -- where the next batch begins
    low         timestamptz,  -- where the last one ends
    batch       bigint,       -- rows of the next batch
    census      bigint,       -- rows of the target that a full rescan looks for
    requests    bigint,       -- of this backend, before the step
    statement   text,         -- of this step, if it has one
    pause       boolean       -- another run is busy: wait before the next step
);
COMMENT ON TYPE sync_job IS 'internal: a page that is being copied';

CREATE TYPE sync_result AS (
    alive boolean, seen bigint, existing bigint, written bigint, ids text[], lowest timestamptz, newest timestamptz
);
COMMENT ON TYPE sync_result IS 'internal: what a step brought';

-- ---------------------------------------------------------------------------------------------------------------
-- What only the library knows
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION sync_may_commit() RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_may_commit';
COMMENT ON FUNCTION sync_may_commit() IS 'internal: whether the procedure that asks may commit';

CREATE FUNCTION sync_requests() RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_requests';
COMMENT ON FUNCTION sync_requests() IS 'internal: requests that the scans of this session have made';

-- ---------------------------------------------------------------------------------------------------------------
-- Marks and runs: who may change them, and how
-- ---------------------------------------------------------------------------------------------------------------

-- Marks decide what a run leaves out: only who may write the copy may write them.
CREATE FUNCTION sync_check(target regclass) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        CASE has_table_privilege(pancake.reader(), target::oid, 'INSERT')
            WHEN true THEN RETURN;
            WHEN false THEN
                RAISE insufficient_privilege USING MESSAGE = format('permission denied for table %s', target),
                    HINT = format('GRANT SELECT, INSERT, UPDATE ON %s TO %I;', target, pancake.reader());
            ELSE RAISE undefined_table USING MESSAGE = 'the target of this sync does not exist any more';
        END CASE;
    END $$;
COMMENT ON FUNCTION sync_check(regclass) IS 'internal: raises unless the caller may write the target';

CREATE FUNCTION sync_key(target regclass, page_id text, lane text) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT hashtextextended(format('pancake_fdw.sync %s %s %s', target::oid, lane, page_id), 0) $$;
COMMENT ON FUNCTION sync_key(regclass, text, text) IS 'internal: the advisory lock of a lane';

-- Two runs of one lane would walk the same window twice. The advisory lock ends with each transaction (a session's lock
-- would survive errors and hide behind a pooler), so between two steps a run is spoken for by its row in the log, as
-- long as its backend is still in the statement that began it.
CREATE FUNCTION sync_enter(target regclass, page_id text, lane text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        PERFORM pancake.sync_check(target);
        IF NOT pg_try_advisory_xact_lock(pancake.sync_key(target, page_id, lane)) THEN
            RETURN false;
        END IF;
        RETURN NOT EXISTS (
            SELECT FROM pancake.sync_log l
            JOIN pg_stat_activity a ON a.pid = l.pid AND a.query_start = l.statement_at AND a.state = 'active'
            WHERE l.target = sync_enter.target AND l.page_id = sync_enter.page_id AND l.status = 'running'
              AND (l.kind = 'full') = (lane = 'full') AND l.pid <> pg_backend_pid());
    END $$;
COMMENT ON FUNCTION sync_enter(regclass, text, text) IS 'internal: takes a lane for this transaction; false where another run is in it';

-- A run whose backend was killed never said so: its row is closed by the next run of the page, which is alone in its
-- lane.
CREATE FUNCTION sync_start(job sync_job, status text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        run bigint;
        ended timestamptz := CASE WHEN status <> 'running' THEN clock_timestamp() END;
    BEGIN
        PERFORM pancake.sync_check(job.target);
        DELETE FROM pancake.sync_log l WHERE l.started_at < now() - interval '30 days' AND l.status <> 'running';
        IF status = 'running' THEN
            UPDATE pancake.sync_log l
            SET status = 'failed', ended_at = clock_timestamp(), sqlstate = '57P01',
                error = 'the backend ended before the run did'
            WHERE l.target = job.target AND l.page_id = job.page_id AND l.status = 'running'
              AND ((l.kind = 'full') = (job.lane = 'full')
                   OR NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid));
            DELETE FROM pancake.sync_marks m WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = m.target);
            INSERT INTO pancake.sync_marks (target, page_id, object, source, first_since, backfill_from)
            VALUES (job.target, job.page_id, job.object, job.source, job.first_since, job.first_since)
            ON CONFLICT (target, page_id) DO NOTHING;
        END IF;
        INSERT INTO pancake.sync_log AS l (target, page_id, kind, status, started_at, ended_at, pid, statement_at)
        VALUES (job.target, job.page_id, job.kind, sync_start.status, coalesce(job.began_at, clock_timestamp()), ended,
                pg_backend_pid(), statement_timestamp())
        RETURNING l.run_id INTO run;
        RETURN run;
    END $$;
COMMENT ON FUNCTION sync_start(sync_job, text) IS 'internal: opens a run in the log';

CREATE FUNCTION sync_log_step(
        run bigint, status text, seen bigint, inserted bigint, updated bigint, removed bigint, requests bigint)
        RETURNS sync_log
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
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
COMMENT ON FUNCTION sync_log_step(bigint, text, bigint, bigint, bigint, bigint, bigint) IS 'internal: counts a step in the log';

-- An error that cannot be recorded must not hide the one that happened: who may not write the target leaves no trace.
CREATE FUNCTION sync_fail(job sync_job, state text, message text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        IF has_table_privilege(pancake.reader(), job.target::oid, 'INSERT') IS NOT TRUE THEN
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
        WHERE m.target = job.target AND m.page_id = job.page_id;
        IF to_regclass(pancake.sync_census(job)) IS NOT NULL THEN
            EXECUTE format('DROP TABLE %s', pancake.sync_census(job));
        END IF;
    END $$;
COMMENT ON FUNCTION sync_fail(sync_job, text, text) IS 'internal: records the error that ended a run';

-- Read with a lock where they are about to be moved: a delta and a full rescan run beside each other, and both move
-- marks. The lock is taken after the rows of the target, in both, and held for an instant.
CREATE FUNCTION sync_marks_of(job sync_job, to_move boolean) RETURNS sync_marks
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        marks pancake.sync_marks;
    BEGIN
        PERFORM pancake.sync_check(job.target);
        IF to_move THEN
            SELECT * INTO marks FROM pancake.sync_marks m
            WHERE m.target = job.target AND m.page_id = job.page_id FOR UPDATE;
        ELSE
            SELECT * INTO marks FROM pancake.sync_marks m WHERE m.target = job.target AND m.page_id = job.page_id;
        END IF;
        RETURN marks;
    END $$;
COMMENT ON FUNCTION sync_marks_of(sync_job, boolean) IS 'internal: the marks of a page in a target';

CREATE FUNCTION sync_remember(marks sync_marks) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        PERFORM pancake.sync_check(marks.target);
        UPDATE pancake.sync_marks m
        SET source = marks.source, mark = marks.mark, backfilled_to = marks.backfilled_to,
            backfill_from = marks.backfill_from, backfill_done = marks.backfill_done,
            first_since = marks.first_since, last_success_at = marks.last_success_at,
            last_reread_at = marks.last_reread_at, last_full_rescan_at = marks.last_full_rescan_at,
            witnesses = marks.witnesses
        WHERE m.target = marks.target AND m.page_id = marks.page_id;
    END $$;
COMMENT ON FUNCTION sync_remember(sync_marks) IS 'internal: moves the marks';

-- A run that is under way finds its marks gone at its next step, and begins anew.
CREATE FUNCTION sync_reset(target regclass, page_id text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        PERFORM pancake.sync_check(target);
        DELETE FROM pancake.sync_marks m
        WHERE m.target = sync_reset.target AND m.page_id = coalesce(sync_reset.page_id, m.page_id);
    END $$;
COMMENT ON FUNCTION sync_reset(regclass, text) IS 'forgets how far a target is synced: the next sync reads everything again';

-- ---------------------------------------------------------------------------------------------------------------
-- Source and target: what they are made of
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION sync_name(relation regclass) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
    $$;
COMMENT ON FUNCTION sync_name(regclass) IS 'internal: a name that needs no search_path';

-- One job for each page of the source: a foreign table of ours, or a table that is partitioned into such.
CREATE FUNCTION sync_jobs(source regclass) RETURNS sync_job[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        leaf record;
        job pancake.sync_job;
        jobs pancake.sync_job[] := '{}';
        hint CONSTANT text := 'The source is a foreign table of a pancake_fdw server, or a table partitioned by page_id '
            'whose partitions are such foreign tables.';
    BEGIN
        FOR leaf IN
            SELECT l.relation, c.relkind, w.fdwname,
                (SELECT o.option_value FROM pg_options_to_table(t.ftoptions) o WHERE o.option_name = 'object') AS object,
                coalesce(
                    (SELECT o.option_value FROM pg_options_to_table(t.ftoptions) o WHERE o.option_name = 'page_id'),
                    (SELECT o.option_value FROM pg_options_to_table(s.srvoptions) o WHERE o.option_name = 'page_id')
                ) AS page_id
            FROM (SELECT source AS relation WHERE (SELECT c.relkind FROM pg_class c WHERE c.oid = source) <> 'p'
                  UNION ALL
                  SELECT p.relid FROM pg_partition_tree(source) p WHERE p.isleaf AND p.relid <> source) l
            JOIN pg_class c ON c.oid = l.relation
            LEFT JOIN pg_foreign_table t ON t.ftrelid = c.oid
            LEFT JOIN pg_foreign_server s ON s.oid = t.ftserver
            LEFT JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
            ORDER BY page_id
        LOOP
            IF leaf.fdwname IS DISTINCT FROM 'pancake_fdw' THEN
                RAISE wrong_object_type USING HINT = hint,
                    MESSAGE = format('%s is not a foreign table of pancake_fdw', leaf.relation);
            ELSIF leaf.object IS DISTINCT FROM 'conversations' THEN
                RAISE feature_not_supported USING
                    MESSAGE = format('%s holds %s, which sync does not copy', leaf.relation, leaf.object),
                    HINT = 'The source is a foreign table with the option object ''conversations''.';
            ELSIF leaf.page_id = job.page_id THEN
                RAISE wrong_object_type USING HINT = 'Marks belong to a page: each page may be in one partition only.',
                    MESSAGE = format('%s and %s are both of page %s', job.source, leaf.relation, leaf.page_id);
            END IF;
            job.source := leaf.relation;
            job.page_id := leaf.page_id;
            job.object := leaf.object;
            jobs := jobs || job;
        END LOOP;
        IF jobs = '{}' THEN
            RAISE wrong_object_type USING HINT = hint, MESSAGE = format('%s has no pages', source);
        END IF;
        RETURN jobs;
    END $$;
COMMENT ON FUNCTION sync_jobs(regclass) IS 'internal: the pages of a source';

-- The statements that make a target in the image of the source.
CREATE FUNCTION sync_definition(source regclass, target text, schema name) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        parts text[] := parse_ident(target);
        name text;
        columns text;
    BEGIN
        IF cardinality(parts) = 1 THEN
            parts := schema || parts;
        END IF;
        IF cardinality(parts) <> 2 OR parts[1] IS NULL THEN
            RAISE invalid_name USING MESSAGE = format('cannot create a table %L', target),
                HINT = 'Name the target with its schema, such as ''crm.conversations''.';
        END IF;
        name := format('%I.%I', parts[1], parts[2]);
        SELECT string_agg(format('%I %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                   CASE WHEN a.attcollation <> t.typcollation
                       THEN (SELECT format(' COLLATE %I.%I', n.nspname, c.collname)
                             FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
                             WHERE c.oid = a.attcollation) END,
                   CASE WHEN a.attnotnull THEN ' NOT NULL' END), ', ' ORDER BY a.attnum)
        INTO columns
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped
          AND a.attname NOT IN ('page_id', 'synced_at', 'removed_at');
        RETURN ARRAY[
            format('CREATE TABLE %s (page_id text NOT NULL, %s, synced_at timestamp with time zone NOT NULL, '
                   'removed_at timestamp with time zone, PRIMARY KEY (page_id, id))', name, columns),
            format('CREATE INDEX ON %s (page_id, updated_at)', name)];
    END $$;
COMMENT ON FUNCTION sync_definition(regclass, text, name) IS 'internal: how a target is made';

-- How the columns of a source fit those of a target: the texts that statements are made of.
CREATE FUNCTION sync_shape(
        job sync_job, OUT row_of_source text, OUT columns text, OUT cells text, OUT key text, OUT assignments text,
        OUT unlike text, OUT has_page boolean, OUT has_inserted boolean, OUT has_synced boolean, OUT has_removed boolean)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        name CONSTANT text := pancake.sync_name(job.target);
        bad record;
        named text[];
    BEGIN
        IF (SELECT c.relkind NOT IN ('r', 'p') FROM pg_class c WHERE c.oid = job.target) THEN
            RAISE wrong_object_type USING MESSAGE = format('%s is not a table', name),
                HINT = 'The target of a sync is an ordinary or a partitioned table.';
        END IF;
        SELECT r.relation, r.column INTO bad
        FROM (VALUES (job.source, 'id', '{text,varchar}'::regtype[]), (job.source, 'inserted_at', '{timestamptz}'),
                     (job.source, 'updated_at', '{timestamptz}'), (job.target, 'id', '{text,varchar}'),
                     (job.target, 'updated_at', '{timestamptz,timestamp}')) AS r (relation, "column", types)
        WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r.relation AND a.attname = r.column
                              AND NOT a.attisdropped AND a.atttypid = ANY (r.types));
        IF FOUND THEN
            RAISE undefined_column USING
                MESSAGE = format('%s has no column %I that a sync can use', pancake.sync_name(bad.relation), bad.column),
                HINT = 'Source and target need id (text) and updated_at (timestamp with time zone), the source also '
                       'inserted_at.';
        END IF;
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type INTO bad
        FROM pg_attribute a
        LEFT JOIN pg_attribute s ON s.attrelid = job.source AND s.attname = a.attname AND s.attnum > 0
        WHERE a.attrelid = job.target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
          AND (s.atttypid = 'timestamptz'::regtype OR a.attname IN ('synced_at', 'removed_at'))
          AND a.atttypid IN ('timestamp'::regtype, 'date'::regtype, 'time'::regtype, 'timetz'::regtype);
        IF FOUND THEN
            RAISE datatype_mismatch USING
                MESSAGE = format('column %I of %s is of type %s, which would lose the time zone', bad.attname, name, bad.type),
                HINT = format('ALTER TABLE %s ALTER COLUMN %I TYPE timestamptz USING %I AT TIME ZONE ''UTC'';',
                              name, bad.attname, bad.attname);
        END IF;
        SELECT k.names INTO named
        FROM pg_index i CROSS JOIN LATERAL (
            SELECT array_agg(a.attname::text ORDER BY a.attname) AS names
            FROM generate_series(0, i.indnkeyatts - 1) p
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p]) k
        WHERE i.indrelid = job.target AND i.indisunique AND i.indisvalid AND i.indimmediate
          AND i.indpred IS NULL AND i.indexprs IS NULL AND k.names IN ('{id}', '{id,page_id}')
        ORDER BY cardinality(k.names) DESC LIMIT 1;
        IF NOT FOUND THEN
            RAISE invalid_column_reference USING
                MESSAGE = format('table %s has no unique key on (page_id, id) or (id)', name),
                HINT = format('CREATE UNIQUE INDEX ON %s (page_id, id);', name);
        END IF;
        SELECT string_agg(quote_ident(n), ', ' ORDER BY n DESC) INTO key FROM unnest(named) n;

        SELECT bool_or(a.attname = 'page_id'), bool_or(a.attname = 'inserted_at'),
               bool_or(a.attname = 'synced_at'), bool_or(a.attname = 'removed_at'),
               string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FILTER (WHERE s.attname IS NOT NULL),
               string_agg(
                   CASE WHEN a.atttypid = 'jsonb'::regtype AND s.atttypid <> 'jsonb'::regtype
                       THEN format('pg_catalog.to_jsonb(s.%I)', a.attname) ELSE format('s.%I', a.attname) END,
                   ', ' ORDER BY a.attnum) FILTER (WHERE s.attname IS NOT NULL),
               string_agg(format('%1$I = EXCLUDED.%1$I', a.attname), ', ' ORDER BY a.attnum)
                   FILTER (WHERE s.attname IS NOT NULL AND a.attname <> 'id'),
               format('pg_catalog.record_image_ne(ROW(%s), ROW(%s))',
                   string_agg(format('t.%I', a.attname), ', ' ORDER BY a.attnum)
                       FILTER (WHERE s.attname IS NOT NULL AND a.attname <> 'id'),
                   string_agg(format('EXCLUDED.%I', a.attname), ', ' ORDER BY a.attnum)
                       FILTER (WHERE s.attname IS NOT NULL AND a.attname <> 'id'))
        INTO has_page, has_inserted, has_synced, has_removed, columns, cells, assignments, unlike
        FROM pg_attribute a
        LEFT JOIN pg_attribute s ON s.attrelid = job.source AND s.attname = a.attname AND s.attnum > 0
            AND NOT s.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a'
            AND a.attname NOT IN ('page_id', 'synced_at', 'removed_at')
        WHERE a.attrelid = job.target AND a.attnum > 0 AND NOT a.attisdropped;

        -- Rows wait in the source's own type, so that nothing is converted but by the INSERT.
        SELECT string_agg(
                   CASE WHEN a.attname IN ('id', 'inserted_at', 'updated_at') OR EXISTS (
                            SELECT FROM pg_attribute t WHERE t.attrelid = job.target AND t.attname = a.attname
                                AND t.attnum > 0 AND NOT t.attisdropped)
                       THEN format('s.%I', a.attname) ELSE 'NULL' END, ', ' ORDER BY a.attnum)
        INTO row_of_source
        FROM pg_attribute a WHERE a.attrelid = job.source AND a.attnum > 0 AND NOT a.attisdropped;
    END $$;
COMMENT ON FUNCTION sync_shape(sync_job) IS 'internal: how source and target fit';

-- ---------------------------------------------------------------------------------------------------------------
-- The statements of a step. They run under the caller's search_path: every name and operator is spelt out.
-- ---------------------------------------------------------------------------------------------------------------

-- A webhook writes the same rows: the newer version wins, and of two readings of one version the later one, which is
-- the other writer's if it wrote after the statement that read ours had started. A row that does not differ is not
-- written: no dead tuple, and synced_at says when it changed. Rows are compared by their images, for which no type
-- needs an operator. They come in the order of the key, so that two runs cannot wait for each other's rows.
CREATE FUNCTION sync_upsert(job sync_job, rows text, read_at timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        shape record;
    BEGIN
        SELECT * INTO shape FROM pancake.sync_shape(job);
        RETURN concat(
            'INSERT INTO ', pancake.sync_name(job.target), ' AS t (', shape.columns,
            CASE WHEN shape.has_page THEN ', page_id' END, CASE WHEN shape.has_synced THEN ', synced_at' END,
            ') SELECT ', shape.cells,
            CASE WHEN shape.has_page THEN format(', %L', job.page_id) END,
            CASE WHEN shape.has_synced THEN ', pg_catalog.clock_timestamp()' END,
            ' FROM ', rows, ' AS s ORDER BY s.id ON CONFLICT (', shape.key, ') DO UPDATE SET ', shape.assignments,
            CASE WHEN shape.has_synced THEN ', synced_at = EXCLUDED.synced_at' END,
            CASE WHEN shape.has_removed THEN ', removed_at = NULL' END,
            ' WHERE (t.updated_at IS NULL OR t.updated_at OPERATOR(pg_catalog.<) EXCLUDED.updated_at',
            ' OR t.updated_at OPERATOR(pg_catalog.=) EXCLUDED.updated_at',
            CASE WHEN shape.has_synced THEN
                format(' AND (t.synced_at IS NULL OR t.synced_at OPERATOR(pg_catalog.<=) %L::timestamptz)', read_at) END,
            ') AND (', shape.unlike,
            CASE WHEN shape.has_removed THEN ' OR t.removed_at IS NOT NULL' END, ')');
    END $$;
COMMENT ON FUNCTION sync_upsert(sync_job, text, timestamptz) IS 'internal: the statement that writes rows into a target';

-- A FOR loop over a scan would be read whole at its first COMMIT, so a batch is a statement of its own: so many rows in
-- the order of a time, from where the batch before ended, ties included. They are read before the first one is written:
-- rows of the target are locked for milliseconds, not for as long as the network takes.
CREATE FUNCTION sync_batch(job sync_job, "column" text, witnesses text[]) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        shape record;
        bounds text;
        read_at CONSTANT timestamptz := clock_timestamp();
    BEGIN
        SELECT * INTO shape FROM pancake.sync_shape(job);
        SELECT string_agg(format('s.%I OPERATOR(pg_catalog.%s) %L::timestamptz', "column", b.operator, b.bound), ' AND ')
        INTO bounds
        FROM (VALUES ('<=', job.high), ('>=', job.low)) AS b (operator, bound) WHERE b.bound IS NOT NULL;
        RETURN format(
            'SELECT w.alive, coalesce(pg_catalog.cardinality(a.ids), 0), w.existing, w.written, a.ids, a.lowest, a.newest '
            'FROM (SELECT pg_catalog.array_agg(r.row) AS rows, pg_catalog.array_agg(r.id) AS ids, '
            '          pg_catalog.min(r.at) AS lowest, pg_catalog.max(r.updated_at) '
            '          FILTER (WHERE r.updated_at OPERATOR(pg_catalog.<) %1$L::timestamptz) AS newest '
            '      FROM (SELECT ROW(%2$s)::%3$s AS row, s.id, s.updated_at, s.%4$I AS at FROM %3$s AS s%5$s '
            '            ORDER BY s.%4$I DESC LIMIT %6$s) r) a, '
            'LATERAL pancake.sync_write(a.rows, a.ids, %7$L::text[], %8$L, %9$L) w',
            -- A row dated ahead of time would hold the mark up there, and hide all that comes after it.
            read_at + interval '1 day',
            shape.row_of_source, pancake.sync_name(job.source), "column", ' WHERE ' || bounds, job.batch, witnesses,
            -- Asked before the write and in its transaction: from here on nobody can TRUNCATE.
            format('SELECT pg_catalog.bool_or(t.id OPERATOR(pg_catalog.=) ANY ($2)), '
                   'pg_catalog.count(*) FILTER (WHERE t.id OPERATOR(pg_catalog.=) ANY ($1)) '
                   'FROM %s t WHERE t.id OPERATOR(pg_catalog.=) ANY ($1 OPERATOR(pg_catalog.||) $2)%s',
                   pancake.sync_name(job.target), CASE WHEN shape.has_page THEN
                       format(' AND t.page_id OPERATOR(pg_catalog.=) %L', job.page_id) END),
            pancake.sync_upsert(job, 'pg_catalog.unnest($1)', read_at));
    END $$;
COMMENT ON FUNCTION sync_batch(sync_job, text, text[]) IS 'internal: the statement that reads and writes one batch';

-- Rows that are held in memory for a moment. Nothing is written where none of the witnesses is left: then the marks that
-- this batch goes by are of rows that are not there any more.
CREATE FUNCTION sync_write(
        batch anyarray, ids text[], witnesses text[], look text, upsert text,
        OUT alive boolean, OUT existing bigint, OUT written bigint)
    LANGUAGE plpgsql VOLATILE
    AS $$
    BEGIN
        EXECUTE look INTO alive, existing USING ids, witnesses;
        alive := witnesses IS NULL OR coalesce(alive, false);
        written := 0;
        IF alive AND ids IS NOT NULL THEN
            EXECUTE upsert USING batch;
            GET DIAGNOSTICS written = ROW_COUNT;
        END IF;
    END $$;
COMMENT ON FUNCTION sync_write(anyarray, text[], text[], text, text) IS 'internal: writes a batch';

CREATE FUNCTION sync_execute(statement text, OUT affected bigint)
    LANGUAGE plpgsql VOLATILE
    AS $$
    BEGIN
        EXECUTE statement;
        GET DIAGNOSTICS affected = ROW_COUNT;
    END $$;
COMMENT ON FUNCTION sync_execute(text) IS 'internal: executes a statement and counts its rows';

-- ---------------------------------------------------------------------------------------------------------------
-- The steps of a job
--
--   backfill   head → past …             down by inserted_at, which never changes: backfilled_to is a true frontier
--   delta      head → changed … → begun   what changed since the mark; what began since, whatever its updated_at
--   reread     again …                    the last days once more: tags, assignees, seen move no time
--   full       census → head → all … → gone
--
-- The head is one reply by updated_at. What moves up there later is newer than its newest row, less the minute that
-- Pancake may take to show a message: so that row's time is the mark, and the next delta begins before it.
-- ---------------------------------------------------------------------------------------------------------------

-- One reply.
CREATE FUNCTION sync_head_rows() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 60::bigint';
-- 64 replies: 16 s at 4 requests a second are lost at most when a run is killed, and some 15 MB of rows are held.
CREATE FUNCTION sync_batch_rows() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT (64 * 59 + 1)::bigint';

-- Where a delta begins.
CREATE FUNCTION sync_since(job sync_job, marks sync_marks) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    -- Messages surface up to a minute late, and comments are dated to the whole second.
    AS $$ SELECT marks.mark - greatest(job.lookback, interval '2 minutes') $$;
COMMENT ON FUNCTION sync_since(sync_job, sync_marks) IS 'internal: where a delta begins';

CREATE FUNCTION sync_census(job sync_job) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT format('pg_temp.pancake_sync_%s', job.run_id) $$;
COMMENT ON FUNCTION sync_census(sync_job) IS 'internal: the table of rows that a full rescan looks for';

-- Which run a job makes next: `ended` is the kind of the one before. None where the job is done.
CREATE FUNCTION sync_next(job sync_job, marks sync_marks, ended text) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        reread_is_due CONSTANT boolean := coalesce(
            job.reread > interval '0' AND marks.mark IS NOT NULL
            AND (marks.last_reread_at IS NULL OR marks.last_reread_at <= job.asked_at - job.reread_every), false);
    BEGIN
        job.kind := CASE
            WHEN ended IS NULL AND (NOT marks.backfill_done OR marks.mark IS NULL) THEN 'backfill'
            WHEN ended IS NULL THEN job.lane
            WHEN ended = 'delta' AND NOT marks.backfill_done THEN 'backfill'
            WHEN ended IN ('delta', 'backfill') AND reread_is_due THEN 'reread'
        END;
        job.phase := CASE job.kind
            WHEN 'backfill' THEN CASE WHEN marks.mark IS NULL THEN 'head' ELSE 'past' END
            WHEN 'delta' THEN 'head'
            WHEN 'full' THEN 'census'
            WHEN 'reread' THEN 'again'
            ELSE 'end' END;
        job.began_at := clock_timestamp();
        job.batch := CASE job.phase WHEN 'head' THEN pancake.sync_head_rows() ELSE pancake.sync_batch_rows() END;
        job.newest := NULL;
        job.census := NULL;
        job.high := NULL;
        job.since := pancake.sync_since(job, marks);
        job.low := CASE job.phase WHEN 'again' THEN marks.mark - job.reread END;
        job.run_id := NULL;
        IF job.phase <> 'end' THEN
            job.run_id := pancake.sync_start(job, 'running');
        END IF;
        RETURN job;
    END $$;
COMMENT ON FUNCTION sync_next(sync_job, sync_marks, text) IS 'internal: opens the next run of a job';

-- After TRUNCATE, DROP or the restore of a part, marks would hide what is missing: they are believed only as long as
-- one of their rows is there.
CREATE FUNCTION sync_alive(job sync_job, witnesses text[], OUT alive boolean)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s t WHERE t.id = ANY ($1)%s)', pancake.sync_name(job.target),
            (SELECT format(' AND t.page_id = %L', job.page_id) FROM pancake.sync_shape(job) s WHERE s.has_page))
        INTO alive USING witnesses;
    END $$;
COMMENT ON FUNCTION sync_alive(sync_job, text[]) IS 'internal: whether the marks are to be believed';

-- The first step: what is to be done, and whether the lane for it is free.
CREATE FUNCTION sync_begin(job sync_job) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        marks pancake.sync_marks;
        alive boolean := true;
        has_past boolean;
        lane text;
    BEGIN
        job.run_id := NULL;
        job.kind := NULL;
        -- What the statements of this job need is there, or Postgres says what is not.
        EXECUTE 'EXPLAIN ' || pancake.sync_upsert(job, pancake.sync_name(job.source), now());
        marks := pancake.sync_marks_of(job, false);
        IF marks.object <> job.object THEN
            RAISE object_not_in_prerequisite_state USING
                MESSAGE = format('%s holds %s of page %s already', job.target, marks.object, job.page_id),
                HINT = 'Give each object a target of its own, or forget the marks with pancake.sync_reset().';
        END IF;
        IF marks.witnesses IS NOT NULL THEN
            alive := pancake.sync_alive(job, marks.witnesses);
        END IF;
        has_past := alive AND marks.backfill_done AND marks.mark IS NOT NULL;
        lane := CASE WHEN job.full_rescan AND has_past THEN 'full' ELSE 'delta' END;
        job.kind := CASE WHEN has_past THEN lane ELSE 'backfill' END;
        IF NOT pancake.sync_enter(job.target, job.page_id, lane) THEN
            job.pause := clock_timestamp() < job.asked_at + coalesce(job.patience, interval '0');
            IF NOT job.pause THEN
                PERFORM pancake.sync_start(job, 'skipped');
                RAISE NOTICE 'page %: skipped: another sync into % is running', job.page_id, job.target;
                job.phase := 'end';
            END IF;
            RETURN job;
        END IF;
        IF pancake.sync_marks_of(job, false) IS DISTINCT FROM marks THEN
            -- A run ended just now; what it left is looked at anew.
            RETURN job;
        END IF;
        IF NOT alive THEN
            RAISE NOTICE 'page %: % does not hold the rows any more that were copied into it: everything is read again',
                job.page_id, job.target;
            PERFORM pancake.sync_reset(job.target, job.page_id);
            marks := NULL;
        END IF;
        job.lane := lane;
        marks.backfill_done := coalesce(marks.backfill_done, false);
        RETURN pancake.sync_next(job, marks, NULL);
    END $$;
COMMENT ON FUNCTION sync_begin(sync_job) IS 'internal: the first step of a job';

-- The first half of a step: the lane, and the statement.
CREATE FUNCTION sync_prepare(job sync_job) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        marks pancake.sync_marks;
    BEGIN
        job.requests := pancake.sync_requests();
        job.statement := NULL;
        job.pause := false;
        IF job.phase = 'enter' THEN
            RETURN pancake.sync_begin(job);
        END IF;
        IF NOT pancake.sync_enter(job.target, job.page_id, job.lane) THEN
            -- Somebody looks whether the lane is free, just between two of our steps, and lets go of it at once.
            PERFORM pg_advisory_xact_lock(pancake.sync_key(job.target, job.page_id, job.lane));
        END IF;
        marks := pancake.sync_marks_of(job, false);
        IF job.phase = 'census' THEN
            job := pancake.sync_take_census(job, marks);
            job.phase := 'head';
            job.batch := pancake.sync_head_rows();
        ELSIF job.phase = 'past' THEN
            job.high := marks.backfilled_to;
            job.low := marks.backfill_from;
        END IF;
        IF job.kind = 'delta' THEN
            -- A walk that is cut into pieces, to be quick, costs a request or two more.
            PERFORM set_config('pancake_fdw.max_concurrency', '1', true);
        END IF;
        job.statement := CASE
            WHEN job.phase IN ('head', 'changed', 'again') THEN pancake.sync_batch(job, 'updated_at', marks.witnesses)
            WHEN job.phase IN ('begun', 'past', 'all') THEN pancake.sync_batch(job, 'inserted_at', marks.witnesses)
            WHEN job.phase = 'gone' THEN pancake.sync_removal(job) END;
        RETURN job;
    END $$;
COMMENT ON FUNCTION sync_prepare(sync_job) IS 'internal: the first half of a step';

-- A row that was in the copy when a full rescan began, and that the rescan did not find, is gone. Only rows that some
-- run has seen count, for a webhook may know a conversation before the list shows it: those not newer than the mark.
CREATE FUNCTION sync_take_census(job sync_job, marks sync_marks) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        shape record;
    BEGIN
        SELECT * INTO shape FROM pancake.sync_shape(job);
        IF NOT shape.has_removed OR NOT shape.has_inserted AND marks.first_since IS NOT NULL THEN
            RAISE NOTICE 'page %: rows that are gone are not marked: % has no column %', job.page_id, job.target,
                CASE WHEN shape.has_removed THEN 'inserted_at' ELSE 'removed_at' END;
            RETURN job;
        END IF;
        EXECUTE format('CREATE TABLE %s (id text PRIMARY KEY)', pancake.sync_census(job));
        EXECUTE format('INSERT INTO %s SELECT t.id FROM %s t WHERE t.removed_at IS NULL AND t.updated_at <= %L%s%s',
            pancake.sync_census(job), pancake.sync_name(job.target), marks.mark,
            CASE WHEN shape.has_page THEN format(' AND t.page_id = %L', job.page_id) END,
            CASE WHEN marks.first_since IS NOT NULL THEN format(' AND t.inserted_at >= %L', marks.first_since) END);
        GET DIAGNOSTICS job.census = ROW_COUNT;
        RETURN job;
    END $$;
COMMENT ON FUNCTION sync_take_census(sync_job, sync_marks) IS 'internal: which rows a full rescan looks for';

-- A page that suddenly lacks a tenth of its rows is rather a fault on the way than a shop that deleted them. A row that
-- somebody wrote while the rescan ran is not gone.
CREATE FUNCTION sync_removal(job sync_job) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        shape record;
        gone text[];
        change text := 'SELECT WHERE false';
    BEGIN
        IF job.census IS NOT NULL THEN
            SELECT * INTO shape FROM pancake.sync_shape(job);
            EXECUTE format('SELECT array_agg(id ORDER BY id) FROM %s', pancake.sync_census(job)) INTO gone;
            IF cardinality(gone) * 10 > job.census THEN
                RAISE WARNING 'page %: % of % rows were not found, none is marked as removed',
                    job.page_id, cardinality(gone), job.census
                    USING HINT = 'More than a tenth is taken for a fault. If they are really gone, set removed_at by hand.';
            ELSIF gone IS NOT NULL THEN
                change := concat(
                    format('UPDATE %s AS t SET removed_at = %L', pancake.sync_name(job.target), clock_timestamp()),
                    CASE WHEN shape.has_synced THEN format(', synced_at = %L', clock_timestamp()) END,
                    format(' WHERE t.id OPERATOR(pg_catalog.=) ANY (%L::text[]) AND t.removed_at IS NULL', gone),
                    CASE WHEN shape.has_page THEN format(' AND t.page_id OPERATOR(pg_catalog.=) %L', job.page_id) END,
                    CASE WHEN shape.has_synced THEN
                        format(' AND (t.synced_at IS NULL OR t.synced_at OPERATOR(pg_catalog.<=) %L)', job.began_at) END);
            END IF;
        END IF;
        RETURN format('SELECT true, 0::bigint, 0::bigint, w.affected, NULL::text[], NULL::timestamptz, NULL::timestamptz '
                      'FROM pancake.sync_execute(%L) w', change);
    END $$;
COMMENT ON FUNCTION sync_removal(sync_job) IS 'internal: the statement that marks rows that are gone';

-- The second half of a step: what the batch brought becomes marks, in the transaction that wrote it.
CREATE FUNCTION sync_settle(job sync_job, result sync_result) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        marks pancake.sync_marks := pancake.sync_marks_of(job, true);
        entry pancake.sync_log;
        fresh CONSTANT bigint := least(result.seen - result.existing, result.written);
        is_last CONSTANT boolean := result.seen < job.batch;
        step CONSTANT text := job.phase;
    BEGIN
        IF marks.target IS NULL OR NOT result.alive THEN
            PERFORM pancake.sync_fail(job, '55000', 'the rows or the marks of the target went away meanwhile');
            RAISE NOTICE 'page %: the rows or the marks of % went away meanwhile: starting again', job.page_id, job.target;
            job.phase := 'enter';
            RETURN job;
        END IF;
        entry := pancake.sync_log_step(job.run_id, 'running', result.seen,
            CASE WHEN step = 'gone' THEN 0 ELSE fresh END,
            CASE WHEN step = 'gone' THEN 0 ELSE result.written - fresh END,
            CASE WHEN step = 'gone' THEN result.written ELSE 0 END,
            pancake.sync_requests() - job.requests);

        CASE step
            WHEN 'head' THEN
                job.newest := result.newest;
                IF result.seen > 0 THEN
                    marks.witnesses := coalesce(marks.witnesses, '{NULL,NULL,NULL}');
                    marks.witnesses[1] := result.ids[1];
                END IF;
                IF job.kind = 'backfill' THEN
                    marks.mark := result.newest;
                END IF;
                job.phase := CASE
                    WHEN job.kind = 'full' THEN CASE WHEN is_last THEN 'gone' ELSE 'all' END
                    WHEN is_last THEN 'over'
                    WHEN job.kind = 'backfill' THEN 'past'
                    WHEN result.lowest < job.since THEN 'begun'
                    ELSE 'changed' END;
            WHEN 'changed' THEN
                job.phase := CASE WHEN is_last THEN 'begun' ELSE 'changed' END;
            WHEN 'begun' THEN
                job.phase := 'over';
                IF NOT is_last AND result.lowest >= job.since THEN
                    -- More conversations began than one reply holds: they are a past to be read, down to there.
                    marks.backfilled_to := result.lowest;
                    marks.backfill_from := job.since;
                    marks.backfill_done := false;
                END IF;
            WHEN 'past' THEN
                marks.backfilled_to := coalesce(result.lowest, marks.backfilled_to);
                IF marks.backfill_from IS NOT DISTINCT FROM marks.first_since AND result.seen > 0 THEN
                    marks.witnesses[2] := coalesce(marks.witnesses[2], result.ids[(result.seen + 1) / 2]);
                    marks.witnesses[3] := result.ids[result.seen];
                END IF;
                job.phase := CASE WHEN is_last THEN 'over' ELSE 'past' END;
            WHEN 'again' THEN
                job.phase := CASE WHEN is_last THEN 'over' ELSE 'again' END;
            WHEN 'all' THEN
                job.phase := CASE WHEN is_last THEN 'gone' ELSE 'all' END;
            WHEN 'gone' THEN
                job.phase := 'over';
        END CASE;
        IF job.census IS NOT NULL AND result.ids IS NOT NULL THEN
            EXECUTE format('DELETE FROM %s WHERE id = ANY ($1)', pancake.sync_census(job)) USING result.ids;
        END IF;

        IF job.phase <> 'over' THEN
            -- A batch of nothing but ties leads no further down: the next one is larger.
            job.batch := CASE WHEN job.phase = 'begun' THEN pancake.sync_head_rows()
                WHEN result.lowest = job.high THEN job.batch * 2 ELSE pancake.sync_batch_rows() END;
            job.high := CASE WHEN job.phase IN (step, 'changed') THEN result.lowest END;
            job.low := CASE WHEN job.phase = 'changed' THEN job.since WHEN job.phase = step THEN job.low
                WHEN job.phase = 'all' THEN marks.first_since END;
            PERFORM pancake.sync_remember(marks);
            RAISE NOTICE 'page %: %: % rows, back to %', job.page_id, job.kind, entry.seen, result.lowest;
            RETURN job;
        END IF;

        CASE job.kind
            WHEN 'delta' THEN
                marks.last_success_at := clock_timestamp();
            WHEN 'backfill' THEN
                marks.backfill_done := true;
                marks.last_success_at := clock_timestamp();
                marks.last_reread_at := coalesce(marks.last_reread_at, job.began_at);
            WHEN 'reread' THEN
                marks.last_reread_at := job.began_at;
            WHEN 'full' THEN
                marks.last_success_at := clock_timestamp();
                marks.last_full_rescan_at := clock_timestamp();
                marks.last_reread_at := greatest(marks.last_reread_at, job.began_at);
                IF job.census IS NOT NULL THEN
                    EXECUTE format('DROP TABLE %s', pancake.sync_census(job));
                END IF;
        END CASE;
        marks.mark := greatest(marks.mark, job.newest);
        PERFORM pancake.sync_remember(marks);
        entry := pancake.sync_log_step(job.run_id, 'ok', 0, 0, 0, 0, 0);
        RAISE NOTICE 'page %: % done: % seen, % inserted, % updated, % unchanged, % removed, % requests', job.page_id,
            job.kind, entry.seen, entry.inserted, entry.updated, entry.unchanged, entry.removed, entry.requests;
        IF job.kind = 'backfill' AND job.full_rescan THEN
            job.phase := 'enter';
            RETURN job;
        END IF;
        RETURN pancake.sync_next(job, marks, job.kind);
    END $$;
COMMENT ON FUNCTION sync_settle(sync_job, sync_result) IS 'internal: the second half of a step';

-- RAISE takes no empty DETAIL or HINT for none.
CREATE FUNCTION sync_raise(state text, message text, detail text, hint text) RETURNS void
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
COMMENT ON FUNCTION sync_raise(text, text, text, text) IS 'internal: raises an error that happened before';

CREATE FUNCTION sync_failure(failures jsonb, page text, state text, message text, detail text, hint text) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT failures || jsonb_build_object(
            'page', page, 'state', state, 'message', message, 'detail', detail, 'hint', hint)
    $$;
COMMENT ON FUNCTION sync_failure(jsonb, text, text, text, text, text) IS 'internal: remembers a page that failed';

-- One error for all pages that failed: the others were synced.
CREATE FUNCTION sync_report(failures jsonb, pages integer) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        failed CONSTANT integer := jsonb_array_length(failures);
        one CONSTANT jsonb := failures -> 0;
    BEGIN
        IF failed = 0 THEN
            RETURN;
        ELSIF pages = 1 THEN
            PERFORM pancake.sync_raise(one ->> 'state', one ->> 'message', one ->> 'detail', one ->> 'hint');
        END IF;
        PERFORM pancake.sync_raise(
            one ->> 'state',
            format('sync failed for %s of %s pages: %s', failed, pages,
                (SELECT string_agg(f ->> 'page', ', ') FROM jsonb_array_elements(failures) f)),
            (SELECT string_agg(format('Page %s: %s (%s).', f ->> 'page', f ->> 'message', f ->> 'state'), ' ')
             FROM jsonb_array_elements(failures) f),
            concat_ws(' ', 'The other pages were synced.', nullif(one ->> 'hint', '')));
    END $$;
COMMENT ON FUNCTION sync_report(jsonb, integer) IS 'internal: the error of a sync';

-- Looks after what the caller gave, before anything is done with it.
CREATE FUNCTION sync_job_of(
        source regclass, target text, lookback interval, reread interval, reread_every interval, full_rescan boolean,
        patience interval, first_since timestamptz) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        job pancake.sync_job;
    BEGIN
        IF source IS NULL OR target IS NULL THEN
            RAISE null_value_not_allowed USING MESSAGE = 'a sync needs a source and a target';
        ELSIF lookback IS NULL OR least(lookback, reread, reread_every, patience) < interval '0' THEN
            RAISE invalid_parameter_value USING MESSAGE = 'an interval of a sync cannot be negative, nor lookback NULL';
        END IF;
        job.lookback := lookback;
        job.reread := reread;
        job.reread_every := reread_every;
        job.full_rescan := coalesce(full_rescan, false);
        job.patience := patience;
        job.first_since := first_since;
        job.phase := 'enter';
        RETURN job;
    END $$;
COMMENT ON FUNCTION sync_job_of(regclass, text, interval, interval, interval, boolean, interval, timestamptz) IS 'internal: what every page is synced with';

CREATE PROCEDURE sync(
        source regclass, target text, lookback interval DEFAULT '10 minutes', reread interval DEFAULT '1 day',
        reread_every interval DEFAULT '1 hour', full_rescan boolean DEFAULT false, wait interval DEFAULT NULL,
        first_since timestamptz DEFAULT NULL)
    LANGUAGE plpgsql
    AS $$
    DECLARE
        given pancake.sync_job;
        jobs pancake.sync_job[];
        job pancake.sync_job;
        page pancake.sync_job;
        result pancake.sync_result;
        statements text[];
        statement text;
        copy pg_catalog.regclass;
        is_failed boolean;
        is_cancelled boolean;
        failures pg_catalog.jsonb := '[]';
        state text;
        message text;
        detail text;
        hint text;
    BEGIN
        IF NOT pancake.sync_may_commit() THEN
            RAISE invalid_transaction_termination USING
                MESSAGE = 'pancake.sync commits, so it cannot run inside a transaction block or a function',
                HINT = 'Give it as one statement of its own: one CALL per line, with autocommit on, and not beside '
                       'other statements in one string.';
        END IF;
        given := pancake.sync_job_of(source, target, lookback, reread, reread_every, full_rescan, wait, first_since);
        jobs := pancake.sync_jobs(source);
        copy := pg_catalog.to_regclass(target);
        IF copy IS NULL THEN
            -- Two first calls at once would both create it.
            PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(target, 0));
            copy := pg_catalog.to_regclass(target);
            IF copy IS NULL THEN
                statements := pancake.sync_definition(source, target, pg_catalog.current_schema());
                FOREACH statement IN ARRAY statements LOOP
                    EXECUTE statement;
                END LOOP;
                copy := pg_catalog.to_regclass(target);
                RAISE NOTICE 'created table %', copy;
            END IF;
        END IF;

        FOREACH page IN ARRAY jobs LOOP
            job := given;
            job.source := page.source;
            job.page_id := page.page_id;
            job.object := page.object;
            job.target := copy;
            job.asked_at := pg_catalog.clock_timestamp();
            LOOP
                COMMIT;
                -- Under a stricter level a webhook that writes the same row would end the run.
                SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
                is_failed := false;
                BEGIN
                    job := pancake.sync_prepare(job);
                    IF job.statement IS NOT NULL THEN
                        EXECUTE job.statement INTO result;
                        -- What is checked at the commit is checked here, where an error can still be recorded.
                        SET CONSTRAINTS ALL IMMEDIATE;
                        job := pancake.sync_settle(job, result);
                    END IF;
                EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
                    is_failed := true;
                    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
                END;
                IF is_failed THEN
                    PERFORM pancake.sync_fail(job, state, message);
                    COMMIT;
                    failures := pancake.sync_failure(failures, job.page_id, state, message, detail, hint);
                    IF state OPERATOR(pg_catalog.=) '57014' THEN
                        PERFORM pancake.sync_raise(state, message, detail, hint);
                    END IF;
                    EXIT;
                ELSIF job.pause THEN
                    COMMIT;
                    PERFORM pg_catalog.pg_sleep(0.2);
                END IF;
                EXIT WHEN job.phase OPERATOR(pg_catalog.=) 'end';
            END LOOP;
            COMMIT;
        END LOOP;
        PERFORM pancake.sync_report(failures, pg_catalog.array_length(jobs, 1));
    END $$;
COMMENT ON PROCEDURE sync(regclass, text, interval, interval, interval, boolean, interval, timestamptz) IS
    'copies a foreign table into a table: the first time everything, then what has changed';

-- ---------------------------------------------------------------------------------------------------------------
-- What can be seen of it. Members of pg_monitor see every target, others those that they may read.
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION sync_is_visible(target regclass) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT coalesce(pg_has_role(pancake.reader(), 'pg_monitor', 'USAGE')
                        OR has_table_privilege(pancake.reader(), target::oid, 'SELECT'), false)
    $$;
COMMENT ON FUNCTION sync_is_visible(regclass) IS 'internal: whether the reader of a view sees a target';

CREATE FUNCTION visible_sync_state() RETURNS SETOF sync_marks
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT m.* FROM pancake.sync_marks m WHERE pancake.sync_is_visible(m.target) $$;
COMMENT ON FUNCTION visible_sync_state() IS 'internal: what sync_state shows';
CREATE VIEW sync_state AS
    SELECT target, page_id, object, source, mark, backfilled_to, backfill_done, last_success_at, last_reread_at,
           last_full_rescan_at, last_error_at, last_error
    FROM visible_sync_state();
COMMENT ON VIEW sync_state IS 'how far each page is synced into each target';

CREATE FUNCTION visible_sync_runs() RETURNS SETOF sync_log
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT l.* FROM pancake.sync_log l WHERE pancake.sync_is_visible(l.target) $$;
COMMENT ON FUNCTION visible_sync_runs() IS 'internal: what sync_runs shows';
CREATE VIEW sync_runs AS
    SELECT run_id, target, page_id, kind, status, started_at, ended_at, seen, inserted, updated, unchanged, removed,
           requests, sqlstate, error
    FROM visible_sync_runs();
COMMENT ON VIEW sync_runs IS 'the syncs of the last 30 days: what they did, and how they ended';

GRANT SELECT ON sync_state, sync_runs TO PUBLIC;
