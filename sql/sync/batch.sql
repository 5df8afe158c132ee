-- The statements of a sync's step: one batch is read, then written. They run under the caller's search_path, so every
-- name and operator is spelt out. Times are written as ISO has them: under another DateStyle a zone is an abbreviation,
-- and CST is read as America's where it was Asia's. Which batch comes next is left to steps.sql, how threads are read to
-- threads.sql.

-- A webhook writes the same rows: the newer version wins, and of two readings of one version the later one, which is
-- the other writer's if it wrote after the statement that read ours had started. A stored time that is ahead of the reply's
-- proves no newer version, and in a full rescan none does: there the later reading wins, if the target has synced_at.
-- A row that does not differ is not
-- written: no dead tuple, and synced_at says when it changed. Rows are compared by their images, for which no type
-- needs an operator. They come in the order of the key, so that two runs cannot wait for each other's rows.
CREATE FUNCTION sync_upsert(job sync_job, rows text, read_at timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
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
            ' WHERE ',
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
                           ' OR t.%I OPERATOR(pg_catalog.>) pancake.sync_server_time()', shape.version) END) END,
            CASE WHEN shape.has_synced THEN
                format('(t.synced_at IS NULL OR t.synced_at OPERATOR(pg_catalog.<=) %L::pg_catalog.timestamptz)', read_at)
                ELSE 'true' END,
            ') AND (', shape.unlike,
            CASE WHEN shape.has_removed THEN ' OR t.removed_at IS NOT NULL' END, ')');
    END $$;
COMMENT ON FUNCTION sync_upsert(sync_job, text, timestamptz) IS 'internal: the statement that writes rows into a target';

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

-- The rows of a batch: so many in the order of a time, or a slice of it, from where the batch before ended, ties
-- included; of a list without times, all. A row dated ahead of the reply is not the newest: the mark would stay up there,
-- and hide all that comes after it.
CREATE FUNCTION sync_rows(job sync_job, "column" text, row_of_source text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
    DECLARE
        walk CONSTANT record := pancake.sync_walk(job.object);
        at CONSTANT text := coalesce('s.' || quote_ident("column"), 'NULL::pg_catalog.timestamptz');
        is_head CONSTANT boolean := job.phase IN ('head', 'begun');
    BEGIN
        RETURN concat(
            format('SELECT pg_catalog.array_agg(r.row)%1$s AS rows, pg_catalog.array_agg(r.id)%1$s AS ids, '
                   'pg_catalog.count(*) AS seen, pg_catalog.min(r.at) AS lowest, pg_catalog.max(r.at) '
                   'FILTER (WHERE r.at OPERATOR(pg_catalog.<=) r.now) AS newest, '
                   'pg_catalog.count(*) AS walked, NULL::pg_catalog.text[] AS seam ',
                -- The head of the list is read for its newest row: what began too long ago is not wanted of it, unless
                -- it has changed since.
                CASE WHEN is_head AND job.first_since IS NOT NULL THEN
                    format(' FILTER (WHERE r.inserted_at OPERATOR(pg_catalog.>=) %L::pg_catalog.timestamptz%s)',
                        job.first_since,
                        CASE WHEN job.kind = 'delta' THEN
                            format(' OR r.at OPERATOR(pg_catalog.>=) %L::pg_catalog.timestamptz', job.since) END) END),
            format('FROM (SELECT ROW(%s)::%s AS row, s.id, %s AS at, pancake.sync_server_time() AS now%s '
                   'FROM %2$s AS s%5$s', row_of_source,
                pancake.sync_name(job.source), at, CASE WHEN is_head THEN ', s.inserted_at' END,
                pancake.sync_bounds('s', "column", CASE walk.walk WHEN 'slices' THEN job.edge ELSE job.low END, job.high)),
            CASE WHEN walk.walk <> 'whole' THEN format(' ORDER BY %s DESC', at) END,
            CASE WHEN walk.walk = 'rows' THEN format(' LIMIT %s', job.batch) END, ') r');
    END $$;
COMMENT ON FUNCTION sync_rows(sync_job, text, text) IS 'internal: the query of a batch';

-- A FOR loop over a scan would be read whole at its first COMMIT, so a batch is a statement of its own. Its rows are read
-- before the first one is written: rows of the target are locked for milliseconds, not for as long as the network takes.
CREATE FUNCTION sync_batch(job sync_job, "column" text, witnesses text[]) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
    AS $$
    DECLARE
        shape record;
        read_at CONSTANT timestamptz := clock_timestamp();
    BEGIN
        SELECT * INTO shape FROM pancake.sync_shape(job);
        RETURN format(
            'SELECT w.alive, a.seen, w.existing, w.written, a.ids, a.lowest, a.newest, a.walked, a.seam '
            'FROM (%s) a, LATERAL pancake.sync_write(a.rows, a.ids, %L::pg_catalog.text[], %L, %L) w',
            CASE WHEN job.list IS NULL THEN pancake.sync_rows(job, "column", shape.row_of_source)
                ELSE pancake.sync_threads(job, "column", shape) END,
            witnesses,
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

