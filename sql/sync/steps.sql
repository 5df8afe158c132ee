-- The steps of a job: which batch comes next, and what it means for the marks. The procedure in
-- call.sql executes them.
--
--   Lists that are walked by rows:
--   backfill   head → past …             down by inserted_at, which never changes: backfilled_to is a true frontier
--   delta      head                       what changed since the mark, where one reply holds it; else
--              head → changed … → begun   the rest of it, and what began since, whatever place it has
--   reread     again … → begun            the last days once more: tags, assignees, seen move no time
--   full       census → head → all … → gone
--   Those walked by slices have no head, and what began is what changed:
--   backfill   past …            delta   changed …            reread, full   as above
--   Threads are walked by their conversations, as rows are; the head of a list reads threads only in a delta.
--   A whole list is read in every run, and what is not in it any more is gone:
--   backfill   all               delta, full   census → all → gone
--
-- The head is read as the server shows it, newest activity first. What moves up there later is
-- newer than the newest row of its first reply, less the minute that Pancake may take to show a
-- message: so that row's time is the mark, and the next delta begins before it. Without a head it
-- is the newest time in the first slice that is not empty: walked down by inserted_at its newest
-- row came first, walked up by updated_at last, and what changes later is newer either way.

-- The first reply of a list.
CREATE FUNCTION sync_head_rows() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 60::bigint';
-- One reply in the order of a time: it holds also the rows that show that no newer one follows.
CREATE FUNCTION sync_begun_rows() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 50::bigint';
-- 80 replies: 20 s at 4 requests a second are lost at most when a run is killed, and some 66 MB are
-- used (14 KB a row, measured), beside what is read ahead.
CREATE FUNCTION sync_batch_rows() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT (80 * 59 + 1)::bigint';

-- A thread takes a request or a hundred. The first batch is a guess, the next ones as many
-- conversations as take 64 replies, by what the last ones took.
CREATE FUNCTION sync_first_threads() RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT least(30, pancake.sync_batch_rows()) $$;
COMMENT ON FUNCTION sync_first_threads() IS 'internal: how many conversations the first batch of threads holds';

CREATE FUNCTION sync_next_threads(job sync_job, step text, walked bigint) RETURNS bigint
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT CASE step WHEN 'head' THEN pancake.sync_first_threads() ELSE
            greatest(8, least(pancake.sync_batch_rows(), least(job.batch, walked) * least(8, 64 / greatest(r.made, 1)::float8)::float8))
            END::bigint
        FROM (SELECT pancake.sync_requests() - job.requests AS made) r
    $$;
COMMENT ON FUNCTION sync_next_threads(sync_job, text, bigint) IS 'internal: how many conversations the next batch of threads holds';

-- A delta's window, and a day that is read again, are one slice, unless more is asked for.
CREATE FUNCTION sync_first_span() RETURNS interval LANGUAGE sql IMMUTABLE AS $$SELECT interval '2 days'$$;

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

CREATE FUNCTION sync_has_past(job sync_job, marks sync_marks) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT coalesce(marks.backfill_done AND (marks.mark IS NOT NULL OR w.walk = 'whole'), false)
        FROM pancake.sync_walk(job.object) w
    $$;
COMMENT ON FUNCTION sync_has_past(sync_job, sync_marks) IS 'internal: whether all has been read once';

-- Where the next slice ends. Slices grow until they hold a batch, so an age without rows is crossed
-- in some steps; what is older than pages are is one slice, which begins above the floor that a
-- scan has on a page that takes no window of a month.
CREATE FUNCTION sync_edge(job sync_job) RETURNS timestamptz
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT CASE WHEN e.edge > coalesce(job.low, timestamptz '2016-01-01 00:00:00+00') THEN e.edge ELSE job.low END
        FROM (SELECT coalesce(job.high, clock_timestamp()) - job.span AS edge) e
    $$;
COMMENT ON FUNCTION sync_edge(sync_job) IS 'internal: where the next slice ends';

-- The slice after one that held so many rows: as long as would hold a batch, if time is filled
-- evenly.
CREATE FUNCTION sync_span(job sync_job, seen bigint) RETURNS interval
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT greatest(job.span * least(8, greatest(0.125, pancake.sync_batch_rows() / greatest(seen, 1)::float8)),
                        interval '1 minute')
    $$;
COMMENT ON FUNCTION sync_span(sync_job, bigint) IS 'internal: how long the next slice is';

-- Which run a job makes next: `ended` is the kind of the one before. None where the job is done.
CREATE FUNCTION sync_next(job sync_job, marks sync_marks, ended text) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        walk CONSTANT record := pancake.sync_walk(job.object);
        reread_is_due CONSTANT boolean := coalesce(
            job.reread > interval '0' AND marks.mark IS NOT NULL AND walk.changed IS NOT NULL
            AND (marks.last_reread_at IS NULL OR marks.last_reread_at <= job.asked_at - job.reread_every), false);
    BEGIN
        job.kind := CASE
            WHEN ended IS NULL AND NOT pancake.sync_has_past(job, marks) THEN 'backfill'
            WHEN ended IS NULL THEN job.lane
            WHEN ended = 'backfill' AND job.resumes THEN 'delta'
            WHEN ended = 'delta' AND NOT marks.backfill_done THEN 'backfill'
            WHEN ended IN ('delta', 'backfill') AND reread_is_due THEN 'reread'
        END;
        job.phase := CASE job.kind
            WHEN 'backfill' THEN CASE
                WHEN walk.walk = 'whole' THEN 'all'
                WHEN walk.walk IN ('rows', 'threads') AND marks.mark IS NULL THEN 'head'
                ELSE 'past' END
            WHEN 'delta' THEN CASE walk.walk WHEN 'slices' THEN 'changed' WHEN 'whole' THEN 'census' ELSE 'head' END
            WHEN 'full' THEN 'census'
            WHEN 'reread' THEN 'again'
            ELSE 'end' END;
        job.resumes := ended IS NULL AND job.phase = 'past' AND marks.mark IS NOT NULL;
        job.began_at := clock_timestamp();
        job.batch := CASE WHEN walk.walk <> 'threads' THEN pancake.sync_batch_rows()
            WHEN job.phase = 'head' THEN pancake.sync_head_rows() ELSE pancake.sync_first_threads() END;
        job.span := pancake.sync_first_span();
        job.newest := NULL;
        job.census := NULL;
        job.high := NULL;
        -- Of a backfill that goes on, whether its last batch was sorted.
        job.dated := CASE WHEN job.phase = 'past' AND marks.sorted THEN false END;
        job.seam := NULL;
        job.frozen := NULL;
        job.read_at := NULL;
        job.since := pancake.sync_since(job, marks);
        IF job.kind = 'reread' THEN
            job.since := least(job.since, coalesce(marks.last_reread_at, job.since) - interval '2 minutes');
        END IF;
        job.known_to := coalesce(marks.known_to, job.since);
        IF marks.mark IS NOT NULL THEN
            job.first_since := marks.first_since;
        END IF;
        job.low := CASE job.phase WHEN 'again' THEN marks.mark - job.reread WHEN 'changed' THEN job.since END;
        job.run_id := NULL;
        IF job.phase <> 'end' THEN
            job.run_id := pancake.sync_start(job, 'running');
        END IF;
        RETURN job;
    END $$;
COMMENT ON FUNCTION sync_next(sync_job, sync_marks, text) IS 'internal: opens the next run of a job';

-- After TRUNCATE, DROP or the restore of a part, marks would hide what is missing: they are
-- believed only as long as one of their rows is there.
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

-- Of rows that were just written those that are there: a trigger may have dropped some.
CREATE FUNCTION sync_kept(job sync_job, ids text[], OUT kept text[])
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        EXECUTE format('SELECT array_agg(i.id ORDER BY i.n) FROM unnest($1) WITH ORDINALITY i (id, n) '
                       'WHERE EXISTS (SELECT FROM %s t WHERE t.id = i.id%s)', pancake.sync_name(job.target),
            (SELECT format(' AND t.page_id = %L', job.page_id) FROM pancake.sync_shape(job) s WHERE s.has_page))
        INTO kept USING ids;
    END $$;
COMMENT ON FUNCTION sync_kept(sync_job, text[]) IS 'internal: which of these rows the target holds';

-- Whether the batches before may lack rows that stand at the bottom of the list for want of a time:
-- since the last one began, such a row was seen. From then on the list is sorted, and each batch
-- holds those whose turn it is.
CREATE FUNCTION sync_begins_anew(job sync_job) RETURNS boolean
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT job.phase IN ('past', 'all') AND job.dated IS NOT FALSE
            AND NOT pancake.sync_is_dated(coalesce(job.list, job.source))
    $$;
COMMENT ON FUNCTION sync_begins_anew(sync_job) IS 'internal: whether a list is to be read from its top again';

-- The first step: what is to be done, and whether the lane for it is free.
CREATE FUNCTION sync_begin(job sync_job) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        marks pancake.sync_marks;
        walk CONSTANT record := pancake.sync_walk(job.object);
        shape record;
        alive boolean := true;
        has_past boolean;
        lane text;
    BEGIN
        job.run_id := NULL;
        job.kind := NULL;
        IF walk.begun IS NULL THEN
            job.first_since := NULL;
        END IF;
        PERFORM pancake.sync_check(job.target);
        IF NOT (has_any_column_privilege(job.target, 'SELECT') AND has_any_column_privilege(job.target, 'UPDATE')) THEN
            RAISE insufficient_privilege USING MESSAGE = format('permission denied for table %s', job.target),
                HINT = format('GRANT SELECT, INSERT, UPDATE ON %s TO %I;', job.target, current_user);
        END IF;
        -- Raises Postgres's own error if something is missing that the statements of this job need.
        SELECT * INTO shape FROM pancake.sync_shape(job);
        EXECUTE 'EXPLAIN ' || pancake.sync_upsert(job, shape, pancake.sync_name(job.source), now())
        USING NULL::text[], now();
        marks := pancake.sync_marks_of(job, false);
        IF marks.object <> job.object THEN
            RAISE object_not_in_prerequisite_state USING
                MESSAGE = format('%s holds %s of page %s already', job.target, marks.object, job.page_id),
                HINT = 'Give each object a target of its own, or forget the marks with pancake.sync_reset().';
        END IF;
        IF marks.witnesses IS NOT NULL THEN
            alive := pancake.sync_alive(job, marks.witnesses);
        END IF;
        has_past := alive AND pancake.sync_has_past(job, marks);
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

-- What a step's statement is read and executed with, to the end of the transaction.
CREATE FUNCTION sync_settings(job sync_job) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        IF job.kind = 'delta' THEN
            -- A walk that is cut into pieces, to be quick, costs a request or two more.
            PERFORM set_config('pancake_fdw.max_concurrency', '1', true);
        END IF;
        -- A time that goes into a column of type text or jsonb is written alike by every caller.
        PERFORM set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true);
    END $$;
COMMENT ON FUNCTION sync_settings(sync_job) IS 'internal: the settings of a step';

-- Other steps may have been executed since this one was prepared.
CREATE FUNCTION sync_resume(job sync_job) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        PERFORM pancake.sync_settings(job);
        job.requests := pancake.sync_requests() - job.made;
        RETURN job;
    END $$;
COMMENT ON FUNCTION sync_resume(sync_job) IS 'internal: a step whose statement is executed now';

-- The first half of a step: the lane, and the statement.
CREATE FUNCTION sync_prepare(job sync_job) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        walk CONSTANT record := pancake.sync_walk(job.object);
        marks pancake.sync_marks;
    BEGIN
        job.statement := NULL;
        job.reading := NULL;
        job.pause := false;
        IF job.phase = 'enter' THEN
            RETURN pancake.sync_begin(job);
        END IF;
        IF NOT pancake.sync_enter(job.target, job.page_id, job.lane) THEN
            -- Another session tries whether the lane is free, just between two of our steps, and
            -- releases it at once.
            PERFORM pg_advisory_xact_lock(pancake.sync_key(job.target, job.page_id, job.lane));
        END IF;
        marks := pancake.sync_marks_of(job, false);
        IF job.phase = 'census' THEN
            job := pancake.sync_take_census(job, marks);
            job.phase := CASE WHEN walk.walk IN ('rows', 'threads') THEN 'head' ELSE 'all' END;
            job.low := CASE WHEN job.phase = 'all' THEN job.first_since END;
        END IF;
        IF job.phase IN ('past', 'all') THEN
            IF pancake.sync_begins_anew(job) THEN
                job.high := NULL;
                job.seam := NULL;
                marks := pancake.sync_marks_of(job, true);
                marks.backfilled_to := CASE WHEN job.phase = 'all' THEN marks.backfilled_to END;
                IF marks.target IS NOT NULL THEN
                    PERFORM pancake.sync_remember(marks);
                END IF;
            END IF;
            job.dated := pancake.sync_is_dated(coalesce(job.list, job.source));
            job.frozen := coalesce(job.frozen, pancake.sync_frozen(job));
        END IF;
        IF job.phase = 'past' THEN
            job.high := coalesce(marks.backfilled_to, job.high);
            job.low := marks.backfill_from;
        END IF;
        job.edge := pancake.sync_edge(job);
        PERFORM pancake.sync_settings(job);
        CASE
            WHEN job.phase IN ('head', 'changed', 'again') THEN
                job := pancake.sync_batch(job, walk.changed, marks.witnesses);
            WHEN job.phase IN ('begun', 'past', 'all') THEN
                job := pancake.sync_batch(job, walk.begun, marks.witnesses);
            WHEN job.phase = 'gone' THEN
                job.statement := pancake.sync_removal(job);
        END CASE;
        job.made := pancake.sync_requests() - job.requests;
        RETURN job;
    END $$;
COMMENT ON FUNCTION sync_prepare(sync_job) IS 'internal: the first half of a step';

-- A row that was in the copy when a full rescan began, and that the rescan did not find, is gone.
-- Only rows that some run has seen count, for a webhook may know a conversation before the list
-- shows it: those not newer than the mark. A list without times is known by the sync alone.
CREATE FUNCTION sync_take_census(job sync_job, marks sync_marks) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
    DECLARE
        shape record;
        walk record;
    BEGIN
        SELECT * INTO shape FROM pancake.sync_shape(job);
        SELECT * INTO walk FROM pancake.sync_walk(job.object);
        IF NOT shape.has_removed OR NOT shape.has_inserted AND marks.first_since IS NOT NULL THEN
            IF job.kind = 'full' THEN
                RAISE NOTICE 'page %: rows that are gone are not marked: % has no column %', job.page_id, job.target,
                    CASE WHEN shape.has_removed THEN 'inserted_at' ELSE 'removed_at' END;
            END IF;
            RETURN job;
        END IF;
        EXECUTE format('CREATE TABLE %s (id text PRIMARY KEY)', pancake.sync_census(job));
        EXECUTE format('INSERT INTO %s SELECT t.id FROM %s t WHERE t.removed_at IS NULL%s%s%s',
            pancake.sync_census(job), pancake.sync_name(job.target),
            ' AND t.' || walk.dated || ' <= ' || quote_literal(marks.mark),
            CASE WHEN shape.has_page THEN format(' AND t.page_id = %L', job.page_id) END,
            CASE WHEN marks.first_since IS NOT NULL THEN format(' AND t.inserted_at >= %L', marks.first_since) END);
        GET DIAGNOSTICS job.census = ROW_COUNT;
        RETURN job;
    END $$;
COMMENT ON FUNCTION sync_take_census(sync_job, sync_marks) IS 'internal: which rows a full rescan looks for';

-- A page that suddenly lacks a tenth of its rows is rather a fault on the way than a shop that
-- deleted them. Of a whole list, which is short and comes in one reply, a delta takes only for a
-- fault that it is empty. A row that another session wrote while the rescan ran is not gone.
CREATE FUNCTION sync_removal(job sync_job) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
    DECLARE
        shape record;
        gone text[];
        change text := 'SELECT WHERE false';
    BEGIN
        IF job.census IS NOT NULL THEN
            SELECT * INTO shape FROM pancake.sync_shape(job);
            EXECUTE format('SELECT array_agg(id ORDER BY id) FROM %s', pancake.sync_census(job)) INTO gone;
            IF cardinality(gone) * 10 > job.census AND (job.kind = 'full' OR cardinality(gone) = job.census) THEN
                RAISE WARNING 'page %: % of % rows were not found, none is marked as removed',
                    job.page_id, cardinality(gone), job.census
                    USING DETAIL = format('The first of them: %s.',
                        (SELECT string_agg(quote_literal(g), ', ') FROM unnest(gone[:5]) g)),
                    HINT = CASE job.kind WHEN 'full' THEN 'More than a tenth' ELSE 'A list without any of them' END
                        || ' is taken for a fault. If they are really gone, set removed_at by hand.';
            ELSIF gone IS NOT NULL THEN
                change := concat(
                    format('UPDATE %s AS t SET removed_at = %L', pancake.sync_name(job.target), clock_timestamp()),
                    CASE WHEN shape.has_synced THEN format(', synced_at = %L', clock_timestamp()) END,
                    format(' WHERE t.id OPERATOR(pg_catalog.=) ANY (%L::pg_catalog.text[]) AND t.removed_at IS NULL',
                        gone),
                    CASE WHEN shape.has_page THEN format(' AND t.page_id OPERATOR(pg_catalog.=) %L', job.page_id) END,
                    CASE WHEN shape.has_synced THEN
                        format(' AND (t.synced_at IS NULL OR t.synced_at OPERATOR(pg_catalog.<=) %L)', job.began_at) END);
            END IF;
        END IF;
        -- NULLs and zeros become what sync_result holds.
        RETURN format('SELECT true, 0, 0, w.affected, NULL, NULL, NULL, 0, NULL FROM pancake.sync_execute(%L) w', change);
    END $$;
COMMENT ON FUNCTION sync_removal(sync_job) IS 'internal: the statement that marks rows that are gone';

-- The second half of a step: what the batch brought becomes marks, in the transaction that wrote
-- it.
CREATE FUNCTION sync_settle(job sync_job, result sync_result) RETURNS sync_job
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        marks pancake.sync_marks := pancake.sync_marks_of(job, true);
        entry pancake.sync_log;
        fresh CONSTANT bigint := least(coalesce(cardinality(result.ids), 0) - result.existing, result.written);
        walk CONSTANT record := pancake.sync_walk(job.object);
        is_last CONSTANT boolean := CASE WHEN pancake.sync_reads_head(job) THEN result.lowest IS NULL
            WHEN walk.walk = 'slices' THEN job.edge IS NOT DISTINCT FROM job.low
            WHEN walk.walk = 'whole' THEN true
            ELSE result.walked < job.batch AND NOT pancake.sync_is_cut() AND NOT pancake.sync_begins_anew(job) END;
        is_one_reply CONSTANT boolean := result.walked <= pancake.sync_head_rows();
        -- The head holds no thread but those that a delta wants.
        is_all CONSTANT boolean := result.walked < pancake.sync_head_rows() AND (walk.walk <> 'threads' OR job.kind = 'delta');
        step CONSTANT text := job.phase;
        kept text[];
    BEGIN
        IF marks.target IS NULL OR NOT result.alive THEN
            PERFORM pancake.sync_fail(job, '55000', 'the rows or the marks of the target went away meanwhile');
            RAISE NOTICE 'page %: the rows or the marks of % went away meanwhile: starting again', job.page_id, job.target;
            job.phase := 'enter';
            RETURN job;
        END IF;
        IF step IN ('head', 'past') OR marks.witnesses IS NULL THEN
            kept := pancake.sync_kept(job, result.ids);
        END IF;
        marks.source := job.source;
        entry := pancake.sync_log_step(job.run_id, 'running', result.seen,
            CASE WHEN step = 'gone' THEN 0 ELSE fresh END,
            CASE WHEN step = 'gone' THEN 0 ELSE result.written - fresh END,
            CASE WHEN step = 'gone' THEN result.written ELSE 0 END,
            pancake.sync_requests() - job.requests);

        IF walk.walk = 'slices' THEN
            -- All of the slice has been read, wherever its rows are.
            result.lowest := job.edge;
            job.newest := CASE WHEN job.kind <> 'reread' THEN coalesce(job.newest, result.newest) END;
        END IF;
        CASE step
            WHEN 'head' THEN
                job.newest := result.newest;
                IF kept IS NOT NULL THEN
                    marks.witnesses := coalesce(marks.witnesses, '{NULL,NULL,NULL}');
                    marks.witnesses[1] := kept[1];
                END IF;
                IF job.kind = 'backfill' THEN
                    -- Where all of them are dated ahead, the time of the reply is earlier than
                    -- theirs.
                    marks.mark := coalesce(result.newest, CASE WHEN result.walked > 0 THEN
                        least(job.began_at, pancake.sync_server_time()) END);
                END IF;
                job.phase := CASE
                    WHEN job.kind = 'full' THEN CASE WHEN is_all THEN 'gone' ELSE 'all' END
                    WHEN is_all THEN 'over'
                    WHEN job.kind = 'backfill' THEN 'past'
                    WHEN NOT is_last THEN 'changed'
                    WHEN is_one_reply THEN 'over'
                    ELSE 'begun' END;
                IF walk.walk = 'threads' AND job.kind = 'delta' THEN
                    marks.known_to := CASE WHEN job.phase <> 'over' THEN job.known_to END;
                END IF;
            WHEN 'changed' THEN
                IF marks.witnesses IS NULL AND kept IS NOT NULL THEN
                    marks.witnesses := ARRAY[kept[1], NULL, NULL];
                END IF;
                job.phase := CASE WHEN NOT is_last THEN 'changed' WHEN walk.walk = 'slices' THEN 'over' ELSE 'begun' END;
            WHEN 'begun' THEN
                job.phase := 'over';
                IF NOT is_last AND result.lowest >= job.since THEN
                    -- More conversations began than one reply holds: they are a past to be read,
                    -- down to there.
                    marks.backfilled_to := result.lowest;
                    marks.backfill_from := job.since;
                    marks.backfill_done := false;
                END IF;
            WHEN 'past' THEN
                marks.sorted := NOT job.dated;
                IF walk.walk = 'slices' AND marks.mark IS NULL THEN
                    marks.mark := result.newest;
                    marks.witnesses := CASE WHEN kept IS NOT NULL THEN ARRAY[kept[1], NULL, NULL] END;
                END IF;
                -- A page on which nothing was found yet is read from its head again, for what comes
                -- to it is new.
                IF walk.walk <> 'slices' OR marks.mark IS NOT NULL THEN
                    marks.backfilled_to := coalesce(result.lowest, marks.backfilled_to);
                END IF;
                IF marks.backfill_from IS NOT DISTINCT FROM pancake.sync_floor(job.object, marks.first_since)
                    AND kept IS NOT NULL THEN
                    marks.witnesses := coalesce(marks.witnesses, '{NULL,NULL,NULL}');
                    marks.witnesses[2] := coalesce(marks.witnesses[2], kept[(cardinality(kept) + 1) / 2]);
                    marks.witnesses[3] := kept[cardinality(kept)];
                END IF;
                job.phase := CASE WHEN is_last THEN 'over' ELSE 'past' END;
            WHEN 'again' THEN
                job.phase := CASE WHEN NOT is_last THEN 'again' WHEN walk.walk = 'slices' THEN 'over' ELSE 'begun' END;
            WHEN 'all' THEN
                job.phase := CASE WHEN NOT is_last THEN 'all' WHEN job.kind = 'backfill' THEN 'over' ELSE 'gone' END;
            WHEN 'gone' THEN
                job.phase := 'over';
        END CASE;
        IF job.census IS NOT NULL AND result.ids IS NOT NULL THEN
            EXECUTE format('DELETE FROM %s WHERE id = ANY ($1)', pancake.sync_census(job)) USING result.ids;
        END IF;

        IF job.phase <> 'over' THEN
            -- A batch of nothing but ties leads no further down: the next one is larger.
            job.batch := CASE WHEN job.phase = 'begun' THEN pancake.sync_begun_rows()
                WHEN result.lowest = job.high THEN job.batch * 2
                WHEN walk.walk = 'threads' THEN pancake.sync_next_threads(job, step, result.walked)
                ELSE pancake.sync_batch_rows() END;
            IF walk.walk = 'slices' THEN
                job.span := pancake.sync_span(job, result.seen);
            END IF;
            job.high := CASE WHEN job.phase IN (step, 'changed') THEN coalesce(result.lowest, job.high) END;
            job.seam := CASE WHEN job.phase IN (step, 'changed') THEN result.seam END;
            job.read_at := CASE WHEN job.phase = step THEN job.read_at END;
            job.low := CASE WHEN job.phase = step THEN job.low
                WHEN job.phase = 'all' THEN pancake.sync_floor(job.object, marks.first_since) END;
            PERFORM pancake.sync_remember(marks);
            IF job.is_alone THEN
                RAISE NOTICE 'page %: %: % rows%', job.page_id, job.kind, entry.seen,
                    coalesce(', back to ' || result.lowest, '');
            END IF;
            RETURN job;
        END IF;

        CASE job.kind
            WHEN 'delta' THEN
                marks.last_success_at := clock_timestamp();
            WHEN 'backfill' THEN
                IF walk.walk = 'slices' THEN
                    -- What comes to an empty list is newer than this.
                    marks.mark := coalesce(marks.mark,
                        least(job.began_at, pancake.sync_server_time()) - interval '10 minutes');
                END IF;
                marks.backfill_done := true;
                marks.last_success_at := clock_timestamp();
                marks.last_reread_at := coalesce(marks.last_reread_at, job.began_at);
            WHEN 'reread' THEN
                marks.last_reread_at := job.began_at;
            WHEN 'full' THEN
                marks.last_success_at := clock_timestamp();
                marks.last_full_rescan_at := clock_timestamp();
                marks.last_reread_at := greatest(marks.last_reread_at, job.began_at);
        END CASE;
        IF job.census IS NOT NULL THEN
            EXECUTE format('DROP TABLE %s', pancake.sync_census(job));
        END IF;
        -- A rescan that keeps to a bound has not read what is older and has changed since the mark.
        IF job.kind <> 'full' OR marks.first_since IS NULL THEN
            marks.mark := greatest(marks.mark, job.newest);
        END IF;
        PERFORM pancake.sync_remember(marks);
        entry := pancake.sync_log_step(job.run_id, 'ok', 0, 0, 0, 0, 0);
        IF job.is_alone THEN
            RAISE NOTICE 'page %: % done: % seen, % inserted, % updated, % unchanged, % removed, % request%',
                job.page_id, job.kind, entry.seen, entry.inserted, entry.updated, entry.unchanged, entry.removed,
                entry.requests, CASE WHEN entry.requests <> 1 THEN 's' ELSE '' END;
        END IF;
        IF job.kind = 'backfill' AND job.full_rescan THEN
            job.phase := 'enter';
            RETURN job;
        END IF;
        RETURN pancake.sync_next(job, marks, job.kind);
    END $$;
COMMENT ON FUNCTION sync_settle(sync_job, sync_result) IS 'internal: the second half of a step';

