-- Messages: lists without a list of their own. What is walked are the conversations of the page,
-- and of each that is wanted its thread is read. Which conversations come next is left to
-- steps.sql, what is written to batch.sql.

-- The table of conversations that belongs to a table of messages: of the same server and page,
-- rather in the same schema. None for other objects.
CREATE FUNCTION sync_list(source regclass, object text, page_id text) RETURNS regclass
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        server record;
        own record;
        list regclass;
    BEGIN
        IF (SELECT w.thread IS NULL FROM pancake.sync_walk(object) w) THEN
            RETURN NULL;
        END IF;
        SELECT s.oid, s.srvname, s.srvoptions INTO server
        FROM pg_foreign_table t JOIN pg_foreign_server s ON s.oid = t.ftserver WHERE t.ftrelid = source;
        SELECT n.nspname, c.relnamespace, pancake.sync_option(t.ftoptions, 'page_id') AS page_id INTO own
        FROM pg_foreign_table t JOIN pg_class c ON c.oid = t.ftrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE t.ftrelid = source;
        SELECT t.ftrelid::regclass INTO list
        FROM pg_foreign_table t JOIN pg_class c ON c.oid = t.ftrelid
        WHERE t.ftserver = server.oid AND pancake.sync_option(t.ftoptions, 'object') = 'conversations'
          AND coalesce(pancake.sync_option(t.ftoptions, 'page_id'), pancake.sync_option(server.srvoptions, 'page_id'))
              = sync_list.page_id
        ORDER BY c.relnamespace = own.relnamespace DESC, t.ftrelid LIMIT 1;
        IF NOT FOUND THEN
            RAISE undefined_table USING
                MESSAGE = format('there is no table of the conversations of page %s, whose messages %s holds',
                                 page_id, source),
                HINT = format('IMPORT FOREIGN SCHEMA pancake LIMIT TO (conversations) FROM SERVER %I INTO %I%s;',
                              server.srvname, own.nspname, ' OPTIONS (page_id ' || quote_literal(own.page_id) || ')');
        END IF;
        RETURN list;
    END $$;
COMMENT ON FUNCTION sync_list(regclass, text, text) IS 'internal: the conversations that messages belong to';

-- Conversations that show a time before `first_since`, and stand above one that shows a later one:
-- they have moved after it. Eight in a row are the end. None where all threads are wanted.
CREATE FUNCTION sync_frozen(job sync_job, OUT frozen text[])
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET pancake_fdw.order_by = 'updated_at' SET pancake_fdw.max_concurrency = 1
    AS $$
    DECLARE
        item record;
        above text[] := '{}';
    BEGIN
        frozen := '{}';
        IF job.list IS NULL OR job.first_since IS NULL THEN
            RETURN;
        END IF;
        FOR item IN EXECUTE format('SELECT c.id::text, c.updated_at AS at FROM %s AS c', pancake.sync_name(job.list)) LOOP
            IF item.at < job.first_since THEN
                above := above || item.id;
                EXIT WHEN cardinality(above) = 8;
            ELSE
                frozen := frozen || above;
                above := '{}';
            END IF;
        END LOOP;
        -- Of the last ones nothing shows where they belong.
        frozen := frozen || above;
    END $$;
COMMENT ON FUNCTION sync_frozen(sync_job) IS 'internal: conversations that rest by the time that they show, and do not';

-- Which of the conversations that are walked in the order of a time are wanted, for the others are
-- known.
CREATE FUNCTION sync_wanted(job sync_job) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
        SELECT CASE job.phase
            -- What changed since has been read under that head.
            WHEN 'begun' THEN
                format('c.inserted_at OPERATOR(pg_catalog.>=) %1$L::pg_catalog.timestamptz '
                       'AND c.updated_at OPERATOR(pg_catalog.<) %1$L::pg_catalog.timestamptz', job.since)
            -- A conversation that rests since before `first_since` has no message that is wanted,
            -- unless it shows an older time than its newest message has.
            ELSE concat('true',
                ' AND c.updated_at OPERATOR(pg_catalog.<) '
                    || CASE WHEN job.phase = 'past' THEN quote_literal(job.low) END || '::pg_catalog.timestamptz',
                ' AND (c.updated_at OPERATOR(pg_catalog.>=) ' || quote_literal(job.first_since)
                    || '::pg_catalog.timestamptz'
                    || format(' OR c.id OPERATOR(pg_catalog.=) ANY (%L::pg_catalog.text[])', job.frozen)
                    || CASE WHEN job.kind = 'full' THEN format(
                        ' OR EXISTS (SELECT FROM %s t WHERE t.%I OPERATOR(pg_catalog.=) c.id)',
                        pancake.sync_name(job.target), w.thread) ELSE '' END || ')')
        END
        FROM pancake.sync_walk(job.object) w
    $$;
COMMENT ON FUNCTION sync_wanted(sync_job) IS 'internal: whose messages a step reads';

-- Of a conversation that is known, its messages are read down to one that is stored, and in a delta
-- only: so each has a bound of its own, and they are read one after the other. Those of which
-- nothing is stored, or all is to be read, are asked for at once, as many at a time as the latency
-- needs.
--
-- A webhook stores the newest message first, so not every stored message proves that those before
-- it are stored as well. Those from before the delta's window do: the runs before have read the
-- threads of all that had changed by then. Not so a run of several batches, for a conversation that
-- moved up meanwhile may have been in none of them: then `known_to` stays where it was, until the
-- head of a delta holds all that changed.
CREATE FUNCTION sync_threads(job sync_job, "column" text, shape record) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
    DECLARE
        thread CONSTANT text := (SELECT quote_ident(w.thread) FROM pancake.sync_walk(job.object) w);
        source CONSTANT text := pancake.sync_name(job.source);
        message CONSTANT text := format('SELECT ROW(%s)::%s AS row, s.id, s.inserted_at FROM %2$s AS s',
                                        shape.row_of_source, source);
        since CONSTANT text := ' AND s.inserted_at OPERATOR(pg_catalog.>=) ' || quote_literal(
            CASE WHEN job.phase = 'again' THEN greatest(job.low, job.first_since) ELSE job.first_since END)
            || '::pg_catalog.timestamptz';
        known text := 'NULL::pg_catalog.timestamptz';
        walked text;
    BEGIN
        IF job.kind = 'delta' THEN
            known := format(
                '(SELECT pg_catalog.max(t.inserted_at) FROM %s t WHERE t.%s OPERATOR(pg_catalog.=) c.id '
                'AND t.inserted_at OPERATOR(pg_catalog.<) %L::pg_catalog.timestamptz%s%s)',
                pancake.sync_name(job.target), thread, job.known_to,
                CASE WHEN shape.has_page THEN format(' AND t.page_id OPERATOR(pg_catalog.=) %L', job.page_id) END,
                CASE WHEN shape.has_removed THEN ' AND t.removed_at IS NULL' END);
        END IF;
        IF pancake.sync_reads_head(job) THEN
            -- A conversation that shows an older time than one below it has moved since that time:
            -- whether it has a new message, its thread alone shows.
            walked := format(
                'h AS MATERIALIZED (SELECT * FROM pancake.sync_head(NULL::pg_catalog.text, %L, ''SELECT 0'', %s, %L)), '
                'c AS MATERIALIZED (SELECT i.id, i.at, %s AS wanted FROM h, '
                'ROWS FROM (pg_catalog.unnest(h.ids), pg_catalog.unnest(h.times), pg_catalog.unnest(h.due)) '
                'WITH ORDINALITY AS i (id, at, is_due, place)), '
                'l AS (SELECT h.lowest, h.newest, pg_catalog.cardinality(h.times)::pg_catalog.int8 AS walked, '
                '(SELECT pg_catalog.array_agg(c.id) FROM c WHERE c.wanted AND c.at OPERATOR(pg_catalog.<=) h.lowest) AS seam FROM h)',
                pancake.sync_head_list(job, job.list, 's.id::pg_catalog.text'), job.batch, job.kind = 'delta',
                CASE WHEN job.kind = 'delta' THEN
                    'i.is_due OR coalesce(i.at OPERATOR(pg_catalog.<) pg_catalog.max(i.at) OVER (ORDER BY i.place '
                    'ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING), false)' ELSE 'false' END);
        ELSE
            walked := format(
                'c AS MATERIALIZED (SELECT c.id, c.%1$I AS at, %2$s AS wanted, pancake.sync_server_time() AS now '
                'FROM %3$s c%4$s ORDER BY c.%1$I DESC LIMIT %5$s), '
                'l AS (SELECT pg_catalog.min(c.at) AS lowest, '
                'pg_catalog.max(c.at) FILTER (WHERE c.at OPERATOR(pg_catalog.<=) c.now) AS newest, '
                'pg_catalog.count(*) AS walked, (SELECT pg_catalog.array_agg(c.id) FROM c '
                'WHERE c.at OPERATOR(pg_catalog.=) (SELECT pg_catalog.min(c.at) FROM c)) AS seam FROM c)',
                "column", pancake.sync_wanted(job), pancake.sync_name(job.list),
                pancake.sync_bounds('c', "column", job.low, job.high), job.batch);
        END IF;
        RETURN concat(
            'WITH ', walked,
            format(', k AS MATERIALIZED (SELECT c.id, %s AS bound FROM c WHERE c.wanted%s), ', known,
                ' AND c.id OPERATOR(pg_catalog.<>) ALL (' || quote_literal(job.seam) || '::pg_catalog.text[])'),
            format('m AS (%s WHERE s.%s OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT k.id FROM k WHERE k.bound IS NULL))%s',
                message, thread, since),
            CASE WHEN job.kind = 'delta' THEN
                format(' UNION ALL SELECT o.* FROM k, LATERAL (%s WHERE s.%s OPERATOR(pg_catalog.=) k.id '
                       'AND s.inserted_at OPERATOR(pg_catalog.>) k.bound%s OFFSET 0) o WHERE k.bound IS NOT NULL',
                    message, thread, since) END,
            -- A message that two conversations show is one row.
            ') SELECT r.*, l.* FROM (SELECT pg_catalog.array_agg(d.row) AS rows, '
            'pg_catalog.array_agg(d.id ORDER BY d.inserted_at DESC) AS ids, pg_catalog.count(*) AS seen '
            'FROM (SELECT DISTINCT ON (m.id) m.row, m.id, m.inserted_at FROM m ORDER BY m.id) d) r, l');
    END $$;
COMMENT ON FUNCTION sync_threads(sync_job, text, record) IS 'internal: the query of a batch of threads';
