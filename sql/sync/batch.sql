-- The statements of a sync's step: one batch is read, then written. They run under the caller's
-- search_path, so every name and operator is spelt out. Times are written as ISO has them: under
-- another DateStyle a zone is an abbreviation, and CST is read as America's where it was Asia's.
-- Which batch comes next is left to steps.sql, how threads are read to threads.sql.

-- A webhook writes the same rows: the newer version wins, and of two readings of one version the
-- later one, which is the other writer's if it wrote after the statement that read ours had
-- started. A stored time that is ahead of the reply's proves no newer version, and in a full rescan
-- none does: there the later reading wins, if the target has synced_at. A row that does not differ
-- is not written: no dead tuple, and synced_at is when it changed. Rows are compared by their
-- images, for which no type needs an operator. `t` is the stored row, EXCLUDED the one that was
-- read.
CREATE FUNCTION sync_condition(job sync_job, shape record, read_at timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
    BEGIN
        RETURN concat(
            -- Tags have small numbers on every page.
            CASE WHEN shape.has_page AND shape.key = 'id' THEN
                '(t.page_id IS NULL '
                'OR t.page_id::pg_catalog.text OPERATOR(pg_catalog.=) EXCLUDED.page_id::pg_catalog.text '
                'OR pancake.sync_clash(t.id, t.page_id::pg_catalog.text, EXCLUDED.page_id::pg_catalog.text)) AND ' END,
            '(',
            CASE WHEN shape.version IS NOT NULL AND NOT (job.kind = 'full' AND shape.has_synced) THEN
                format('t.%1$I IS NULL OR t.%1$I OPERATOR(pg_catalog.<) EXCLUDED.%1$I '
                       'OR (t.%1$I OPERATOR(pg_catalog.=) EXCLUDED.%1$I%2$s) AND ', shape.version,
                       CASE WHEN shape.has_synced THEN format(
                           ' OR t.%I OPERATOR(pg_catalog.>) $2', shape.version) END) END,
            CASE WHEN shape.has_synced THEN
                format('(t.synced_at IS NULL OR t.synced_at OPERATOR(pg_catalog.<=) %L::pg_catalog.timestamptz)', read_at)
                ELSE 'true' END,
            ') AND (', shape.unlike,
            CASE WHEN shape.has_page AND shape.key = 'id' THEN ' OR t.page_id IS NULL' END,
            CASE WHEN shape.has_removed THEN ' OR t.removed_at IS NOT NULL' END, ')');
    END $$;
COMMENT ON FUNCTION sync_condition(sync_job, record, timestamptz) IS 'internal: which stored rows are written over';

-- The rows come in the order of the key, so that two runs cannot wait for each other's rows.
CREATE FUNCTION sync_upsert(job sync_job, shape record, rows text, read_at timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
    BEGIN
        RETURN concat(
            'INSERT INTO ', pancake.sync_name(job.target), ' AS t (', shape.columns,
            CASE WHEN shape.has_page THEN ', page_id' END, CASE WHEN shape.has_synced THEN ', synced_at' END,
            ') SELECT ', shape.cells,
            CASE WHEN shape.has_page THEN format(', %L', job.page_id) END,
            CASE WHEN shape.has_synced THEN ', pg_catalog.clock_timestamp()' END,
            ' FROM ', rows, ' AS s ORDER BY s.id ON CONFLICT (', shape.key, ') DO UPDATE SET ', shape.assignments,
            CASE WHEN shape.has_page AND shape.key = 'id' THEN ', page_id = EXCLUDED.page_id' END,
            CASE WHEN shape.has_synced THEN ', synced_at = EXCLUDED.synced_at' END,
            CASE WHEN shape.has_removed THEN ', removed_at = NULL' END,
            ' WHERE ', pancake.sync_condition(job, shape, read_at));
    END $$;
COMMENT ON FUNCTION sync_upsert(sync_job, record, text, timestamptz) IS 'internal: the statement that writes rows into a target';

CREATE FUNCTION sync_bounds(alias text, "column" text, low timestamptz, high timestamptz) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
        SELECT ' WHERE ' || string_agg(
            format('%s.%I OPERATOR(pg_catalog.%s) %L::pg_catalog.timestamptz', alias, "column", b.operator, b.bound),
            ' AND ')
        FROM (VALUES ('<=', high), ('>=', low)) AS b (operator, bound) WHERE b.bound IS NOT NULL
    $$;
COMMENT ON FUNCTION sync_bounds(text, text, timestamptz, timestamptz) IS 'internal: the window of a batch';

-- A row of one page would silently become another page's.
CREATE FUNCTION sync_clash(id text, page_id text, other_page_id text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        RAISE unique_violation USING
            MESSAGE = format('row %s of page %s has the id of a row of page %s', quote_literal(id), other_page_id, page_id),
            HINT = 'Give the target the key (page_id, id) instead of (id), or each page a target of its own.';
    END $$;
COMMENT ON FUNCTION sync_clash(text, text, text) IS 'internal: raises where two pages have rows of one id';

-- How many of these rows a write would change, asked without a lock.
CREATE FUNCTION sync_unlike(job sync_job, shape record, read_at timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        RETURN concat(
            'SELECT pg_catalog.count(*) FROM (SELECT ', shape.compared,
            CASE WHEN shape.has_page THEN format(', %L::pg_catalog.text AS page_id', job.page_id) END,
            ' FROM pg_catalog.unnest($1) AS s) AS excluded LEFT JOIN ', pancake.sync_name(job.target),
            ' AS t ON t.id OPERATOR(pg_catalog.=) excluded.id',
            CASE WHEN shape.has_page AND shape.key <> 'id' THEN
                format(' AND t.page_id OPERATOR(pg_catalog.=) %L', job.page_id) END,
            ' WHERE t.id IS NULL OR ', pancake.sync_condition(job, shape, read_at));
    END $$;
COMMENT ON FUNCTION sync_unlike(sync_job, record, timestamptz) IS 'internal: the query that compares rows with the copy';

-- The head of a list as the server shows it. `list` gives row, id, at, is_due (it is of the window)
-- and is_wanted; rows and ids are those wanted, times and due those read. How far it is read:
-- crates/pancake/src/sync/head.rs.
CREATE FUNCTION sync_head(
        kind anyelement, list text, unlike text, most bigint, is_delta boolean,
        OUT rows anyarray, OUT ids text[], OUT times timestamptz[], OUT due boolean[],
        OUT lowest timestamptz, OUT newest timestamptz) RETURNS SETOF record
    LANGUAGE c VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp
    SET pancake_fdw.order_by = 'updated_at' SET pancake_fdw.max_concurrency = 1
    AS 'MODULE_PATHNAME', 'pancake_fdw_sync_head_wrapper';
COMMENT ON FUNCTION sync_head(anyelement, text, text, bigint, boolean) IS 'internal: reads the head of a list';

-- The list that a head is read from: what began too long ago is not wanted of it, unless it has
-- changed since.
CREATE FUNCTION sync_head_list(job sync_job, list regclass, row_of_list text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
    DECLARE
        since CONSTANT timestamptz := CASE WHEN job.kind = 'delta' THEN job.since ELSE 'infinity' END;
        -- A conversation that began long ago may have the newest message.
        wanted_since CONSTANT timestamptz := CASE WHEN job.list IS NULL THEN job.first_since END;
    BEGIN
        RETURN format('SELECT %s AS row, s.id::pg_catalog.text AS id, s.updated_at AS at, '
            's.updated_at OPERATOR(pg_catalog.>=) %2$L::pg_catalog.timestamptz '
            'OR s.inserted_at OPERATOR(pg_catalog.>=) %2$L::pg_catalog.timestamptz AS is_due, '
            's.updated_at OPERATOR(pg_catalog.>=) %2$L::pg_catalog.timestamptz '
            'OR s.inserted_at OPERATOR(pg_catalog.>=) %3$L::pg_catalog.timestamptz AS is_wanted FROM %4$s AS s%5$s',
            row_of_list, since, coalesce(wanted_since, '-infinity'), pancake.sync_name(list),
            pancake.sync_bounds('s', 'updated_at', NULL, job.high));
    END $$;
COMMENT ON FUNCTION sync_head_list(sync_job, regclass, text) IS 'internal: the query of a head';

-- The rows of a batch: so many in the order of a time, or a slice of it, from where the batch
-- before ended, ties included; of a list without times, all. A row dated ahead of the reply is not
-- the newest: the mark would stay up there, and hide all that comes after it.
CREATE FUNCTION sync_rows(job sync_job, "column" text, shape record, read_at timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
    DECLARE
        walk CONSTANT record := pancake.sync_walk(job.object);
        at CONSTANT text := coalesce('s.' || quote_ident("column"), 'NULL::pg_catalog.timestamptz');
        source CONSTANT text := pancake.sync_name(job.source);
        row_of_source CONSTANT text := format('ROW(%s)::%s', shape.row_of_source, source);
    BEGIN
        IF pancake.sync_reads_head(job) THEN
            RETURN format('SELECT h.rows, h.ids, pg_catalog.cardinality(h.times)::pg_catalog.int8 AS seen, h.lowest, '
                'h.newest, pg_catalog.cardinality(h.times)::pg_catalog.int8 AS walked, NULL::pg_catalog.text[] AS seam '
                'FROM pancake.sync_head(NULL::%s, %L, %L, %s, %L) h', source,
                pancake.sync_head_list(job, job.source, row_of_source),
                CASE WHEN job.kind = 'delta' THEN pancake.sync_unlike(job, shape, read_at) ELSE 'SELECT 0' END, job.batch, job.kind = 'delta');
        END IF;
        RETURN concat(
            format('SELECT pg_catalog.array_agg(r.row)%1$s AS rows, pg_catalog.array_agg(r.id)%1$s AS ids, ',
                CASE WHEN job.phase = 'begun' THEN
                    format(' FILTER (WHERE r.at OPERATOR(pg_catalog.>=) %L::pg_catalog.timestamptz)',
                        coalesce(job.first_since, '-infinity')) END),
            'pg_catalog.count(*) AS seen, pg_catalog.min(r.at) AS lowest, pg_catalog.max(r.at) '
            'FILTER (WHERE r.at OPERATOR(pg_catalog.<=) r.now) AS newest, '
            'pg_catalog.count(*) AS walked, NULL::pg_catalog.text[] AS seam ',
            format('FROM (SELECT %s AS row, s.id, %s AS at, pancake.sync_server_time() AS now FROM %s AS s%s',
                row_of_source, at, source,
                pancake.sync_bounds('s', "column", CASE walk.walk WHEN 'slices' THEN job.edge ELSE job.low END, job.high)),
            CASE WHEN walk.walk <> 'whole' THEN format(' ORDER BY %s DESC', at) END,
            CASE WHEN walk.walk = 'rows' THEN format(' LIMIT %s', job.batch) END, ') r');
    END $$;
COMMENT ON FUNCTION sync_rows(sync_job, text, record, timestamptz) IS 'internal: the query of a batch';

-- A FOR loop over a scan would be read whole at its first COMMIT, so a batch is a statement of its
-- own. Its rows are read before the first one is written: rows of the target are locked for
-- milliseconds, not for as long as the network takes.
CREATE FUNCTION sync_batch(job sync_job, "column" text, witnesses text[]) RETURNS sync_job
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
    DECLARE
        shape record;
    BEGIN
        -- A scan may go on for the next batch, and read its rows before that is prepared.
        job.read_at := coalesce(job.read_at, clock_timestamp());
        SELECT * INTO shape FROM pancake.sync_shape(job);
        job.reading := CASE WHEN job.list IS NULL THEN pancake.sync_rows(job, "column", shape, job.read_at)
            ELSE pancake.sync_threads(job, "column", shape) END;
        job.statement := format(
            'SELECT w.alive, a.seen, w.existing, w.written, a.ids, a.lowest, a.newest, a.walked, a.seam '
            'FROM (%s) a, LATERAL pancake.sync_write(a.rows, a.ids, %L::pg_catalog.text[], %L, %L) w',
            job.reading, witnesses,
            -- Asked before the write and in its transaction: from here on no session can TRUNCATE.
            format('SELECT pg_catalog.bool_or(t.id OPERATOR(pg_catalog.=) ANY ($2)), '
                   'pg_catalog.count(*) FILTER (WHERE t.id OPERATOR(pg_catalog.=) ANY ($1)) '
                   'FROM %s t WHERE t.id OPERATOR(pg_catalog.=) ANY ($1 OPERATOR(pg_catalog.||) $2)%s',
                   pancake.sync_name(job.target), CASE WHEN shape.has_page THEN
                       format(' AND t.page_id OPERATOR(pg_catalog.=) %L', job.page_id) END),
            pancake.sync_upsert(job, shape, 'pg_catalog.unnest($1)', job.read_at));
        RETURN job;
    END $$;
COMMENT ON FUNCTION sync_batch(sync_job, text, text[]) IS 'internal: the statement that reads and writes one batch';

-- Rows that are held in memory for a moment.
CREATE FUNCTION sync_write(
        batch anyarray, ids text[], witnesses text[], look text, upsert text,
        OUT alive boolean, OUT existing bigint, OUT written bigint) RETURNS SETOF record
    LANGUAGE c VOLATILE ROWS 1
    AS 'MODULE_PATHNAME', 'pancake_fdw_sync_write_wrapper';
COMMENT ON FUNCTION sync_write(anyarray, text[], text[], text, text) IS 'internal: writes a batch';

CREATE FUNCTION sync_execute(statement text, OUT affected bigint)
    LANGUAGE plpgsql VOLATILE
    AS $$
    BEGIN
        EXECUTE statement;
        GET DIAGNOSTICS affected = ROW_COUNT;
    END $$;
COMMENT ON FUNCTION sync_execute(text) IS 'internal: executes a statement and counts its rows';

