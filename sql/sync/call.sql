-- CALL pancake.sync(…): arguments in, steps one after the other, errors out. What a step does is
-- left to steps.sql.

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
        one jsonb;
    BEGIN
        failures := (SELECT jsonb_agg(f ORDER BY f ->> 'page') FROM jsonb_array_elements(failures) f);
        one := failures -> 0;
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
            concat_ws(' ', CASE WHEN failed < pages THEN 'The other pages were synced.' END, nullif(one ->> 'hint', '')));
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
COMMENT ON FUNCTION sync_job_of(regclass, text, interval, interval, interval, boolean, interval, timestamptz) IS
    'internal: what every page is synced with';

-- One line for all pages, if there are several: those of a page are in pancake.progress.
CREATE FUNCTION sync_show(done bigint, failed bigint, pages integer, seen bigint, written bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        RAISE NOTICE '% of % pages done%: % rows seen, % written', done - failed, pages,
            CASE WHEN failed > 0 THEN format(', %s failed', failed) END, seen, written;
    END $$;
COMMENT ON FUNCTION sync_show(bigint, bigint, integer, bigint, bigint) IS 'internal: how far a call for several pages is';

-- The pages are read at the same time, their steps executed one after the other. A step is prepared
-- in one transaction, from which on its rows are read ahead, and executed in a later one, when they
-- are there.
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
        result pancake.sync_result;
        statements text[];
        statement text;
        copy pg_catalog.regclass;
        pages integer;
        place integer;
        unprepared integer[];
        paused integer[] := '{}';
        paused_at timestamptz;
        done bigint := 0;
        seen bigint := 0;
        written bigint := 0;
        shown_at timestamptz := pg_catalog.clock_timestamp();
        is_failed boolean;
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
        pages := pg_catalog.array_length(jobs, 1);
        copy := pg_catalog.to_regclass(target);
        IF copy IS NULL THEN
            -- Two first calls at once would both create it.
            PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(target, 0));
            copy := pg_catalog.to_regclass(target);
            IF copy IS NULL THEN
                statements := pancake.sync_definition(source, jobs[1].object, target, pg_catalog.current_schema());
                BEGIN
                    FOREACH statement IN ARRAY statements LOOP
                        EXECUTE statement;
                    END LOOP;
                    copy := pg_catalog.to_regclass(target);
                    -- Of a table that is gone marks may be left, and its oid is given out again one
                    -- day.
                    PERFORM pancake.sync_reset(copy);
                    -- What cannot be copied leaves no table behind.
                    job := jobs[1];
                    job.target := copy;
                    PERFORM pancake.sync_shape(job);
                    RAISE NOTICE 'created table %', copy;
                -- By another call, which this transaction learns of only now.
                EXCEPTION WHEN duplicate_table OR unique_violation THEN
                    copy := target::pg_catalog.regclass;
                END;
            END IF;
        END IF;

        FOR place IN 1 .. pages LOOP
            job := given;
            job.source := jobs[place].source;
            job.page_id := jobs[place].page_id;
            job.object := jobs[place].object;
            job.list := jobs[place].list;
            job.target := copy;
            job.asked_at := pg_catalog.clock_timestamp();
            job.is_alone := pages OPERATOR(pg_catalog.=) 1;
            jobs[place] := job;
            unprepared := unprepared OPERATOR(pg_catalog.||) place;
        END LOOP;
        LOOP
            COMMIT;
            -- Under a stricter level a webhook that writes the same row would end the run.
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            place := unprepared[1];
            is_failed := false;
            BEGIN
                IF place IS NOT NULL THEN
                    unprepared := unprepared[2:];
                    job := jobs[place];
                    job.requests := pancake.sync_requests();
                    job := pancake.sync_prepare(job);
                    IF job.statement IS NOT NULL THEN
                        PERFORM pancake.sync_ahead(place, job.reading);
                    END IF;
                ELSE
                    place := pancake.sync_ready();
                    IF place IS NOT NULL THEN
                        job := jobs[place];
                        job := pancake.sync_resume(job);
                        EXECUTE job.statement INTO result;
                        -- What is checked at the commit is checked here, where an error can still
                        -- be recorded.
                        SET CONSTRAINTS ALL IMMEDIATE;
                        job := pancake.sync_settle(job, result);
                        job.statement := NULL;
                        seen := seen OPERATOR(pg_catalog.+) result.seen;
                        written := written OPERATOR(pg_catalog.+) result.written;
                        IF paused_at OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)
                                interval '0.2 seconds') THEN
                            unprepared := unprepared OPERATOR(pg_catalog.||) paused;
                            paused := '{}';
                        END IF;
                    END IF;
                END IF;
            EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
                is_failed := true;
                GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                    detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
            END;
            IF place IS NULL AND NOT is_failed THEN
                EXIT WHEN paused OPERATOR(pg_catalog.=) '{}';
                COMMIT;
                PERFORM pg_catalog.pg_sleep(0.2);
                unprepared := paused;
                paused := '{}';
                CONTINUE;
            END IF;
            IF is_failed AND state OPERATOR(pg_catalog.=) 'HV000' AND job.dated AND pancake.sync_begins_anew(job) THEN
                job.dated := NULL;
                job.statement := NULL;
                is_failed := false;
            END IF;
            IF is_failed AND place IS NOT NULL THEN
                PERFORM pancake.sync_abandon(place);
                PERFORM pancake.sync_fail(job, state, message);
                job.phase := 'end';
                job.statement := NULL;
                job.pause := false;
                failures := pancake.sync_failure(failures, job.page_id, state, message, detail, hint);
            END IF;
            IF place IS NOT NULL THEN
                jobs[place] := job;
            END IF;
            IF is_failed AND (place IS NULL OR state OPERATOR(pg_catalog.=) '57014') THEN
                -- All pages end with the statement.
                FOR place IN 1 .. pages LOOP
                    job := jobs[place];
                    IF job.run_id IS NOT NULL AND job.phase OPERATOR(pg_catalog.<>) 'end' THEN
                        job.made := CASE WHEN job.statement IS NOT NULL THEN job.made ELSE 0 END;
                        job := pancake.sync_resume(job);
                        PERFORM pancake.sync_abandon(place);
                        PERFORM pancake.sync_fail(job, state, message);
                    END IF;
                END LOOP;
                COMMIT;
                PERFORM pancake.sync_raise(state, message, detail, hint);
            END IF;
            IF job.pause THEN
                paused_at := pg_catalog.clock_timestamp();
                paused := paused OPERATOR(pg_catalog.||) place;
            ELSIF job.phase OPERATOR(pg_catalog.=) 'end' THEN
                done := done OPERATOR(pg_catalog.+) 1;
            ELSIF job.statement IS NULL THEN
                unprepared := unprepared OPERATOR(pg_catalog.||) place;
            END IF;
            IF pages OPERATOR(pg_catalog.>) 1 AND (done OPERATOR(pg_catalog.=) pages OR pg_catalog.clock_timestamp()
                    OPERATOR(pg_catalog.>) (shown_at OPERATOR(pg_catalog.+) interval '10 seconds')) THEN
                PERFORM pancake.sync_show(done, pg_catalog.jsonb_array_length(failures), pages, seen, written);
                shown_at := pg_catalog.clock_timestamp();
            END IF;
        END LOOP;
        PERFORM pancake.sync_report(failures, pages);
    END $$;
COMMENT ON PROCEDURE sync(regclass, text, interval, interval, interval, boolean, interval, timestamptz) IS
    'copies a foreign table into a table: the first time everything, then what has changed';
