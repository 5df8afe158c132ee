-- Source and target of a sync: what they are made of, and how they fit. What is written is left to
-- batch.sql.

CREATE FUNCTION sync_name(relation regclass) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
    $$;
COMMENT ON FUNCTION sync_name(regclass) IS 'internal: a name that needs no search_path';

-- How an object is walked, and by which of its times:
--   rows     so many at a time, newest first: the list comes in that order
--   slices   all of a slice of time: the list has numbers and a window, and no order that can be taken in pieces
--   whole    all at once: the list has neither times nor pages, and each run reads it to its end
--   threads  the conversations of the page, as rows; of each its own list, newest first, by the column `thread`
CREATE FUNCTION sync_walk(
        object text, OUT walk text, OUT changed text, OUT begun text, OUT version text, OUT dated text, OUT thread text)
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT w.walk, w.changed, w.begun, w.version, w.dated, w.thread
        FROM (VALUES
            ('conversations', 'rows',    'updated_at',  'inserted_at', 'updated_at', 'updated_at',  NULL),
            ('customers',     'slices',  'updated_at',  'inserted_at', 'updated_at', 'updated_at',  NULL),
            ('posts',         'slices',  'inserted_at', 'inserted_at', NULL,         'inserted_at', NULL),
            ('tags',          'whole',   NULL,          NULL,          NULL,         NULL,          NULL),
            ('users',         'whole',   NULL,          NULL,          NULL,         NULL,          NULL),
            ('messages',      'threads', 'updated_at',  'inserted_at', NULL,         'inserted_at', 'conversation_id'))
            AS w (object, walk, changed, begun, version, dated, thread)
        WHERE w.object = sync_walk.object
    $$;
COMMENT ON FUNCTION sync_walk(text) IS 'internal: how an object is walked';

-- Whether a step reads the head of a list as it is shown, and not a part of it in the order of a
-- time.
CREATE FUNCTION sync_reads_head(job sync_job) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT job.phase = 'head' OR job.phase = 'changed' AND w.walk <> 'slices' FROM pancake.sync_walk(job.object) w
    $$;
COMMENT ON FUNCTION sync_reads_head(sync_job) IS 'internal: whether a step reads the head of a list';

-- Down to where a list is walked that holds what is wanted since a time. The conversation that
-- began first may have the newest message: of those the list is read to its end.
CREATE FUNCTION sync_floor(object text, first_since timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT CASE WHEN w.thread IS NULL THEN first_since END FROM pancake.sync_walk(object) w $$;
COMMENT ON FUNCTION sync_floor(text, timestamptz) IS 'internal: where the walk of a list ends';

CREATE FUNCTION sync_option(options text[], name text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT o.option_value FROM pg_options_to_table(options) o WHERE o.option_name = name $$;
COMMENT ON FUNCTION sync_option(text[], text) IS 'internal: an option of a server or a foreign table';

-- One job for each page of the source: a foreign table of ours, or a table that is partitioned into
-- such.
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
                pancake.sync_option(t.ftoptions, 'object') AS object,
                coalesce(pancake.sync_option(t.ftoptions, 'page_id'), pancake.sync_option(s.srvoptions, 'page_id'))
                    AS page_id
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
            ELSIF (SELECT w.walk IS NULL FROM pancake.sync_walk(leaf.object) w) THEN
                RAISE feature_not_supported USING
                    MESSAGE = format('%s holds %s, which sync does not copy', leaf.relation, leaf.object),
                    HINT = 'A sync belongs to a page. A list without one is copied by CREATE TABLE … AS SELECT.';
            ELSIF leaf.object <> job.object THEN
                RAISE wrong_object_type USING HINT = hint,
                    MESSAGE = format('%s holds %s, %s holds %s', job.source, job.object, leaf.relation, leaf.object);
            ELSIF leaf.page_id = job.page_id THEN
                RAISE wrong_object_type USING HINT = 'Marks belong to a page: each page may be in one partition only.',
                    MESSAGE = format('%s and %s are both of page %s', job.source, leaf.relation, leaf.page_id);
            END IF;
            job.source := leaf.relation;
            job.page_id := leaf.page_id;
            job.object := leaf.object;
            job.list := pancake.sync_list(leaf.relation, leaf.object, leaf.page_id);
            jobs := jobs || job;
        END LOOP;
        IF jobs = '{}' THEN
            RAISE wrong_object_type USING HINT = hint, MESSAGE = format('%s has no pages', source);
        END IF;
        RETURN jobs;
    END $$;
COMMENT ON FUNCTION sync_jobs(regclass) IS 'internal: the pages of a source';

-- The statements that make a target in the image of the source.
CREATE FUNCTION sync_definition(source regclass, object text, target text, schema name) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        parts text[] := parse_ident(target);
        name text;
        columns text;
        indexed text;
    BEGIN
        IF cardinality(parts) = 1 THEN
            parts := schema || parts;
        END IF;
        IF cardinality(parts) <> 2 OR parts[1] IS NULL THEN
            RAISE invalid_name USING MESSAGE = format('cannot create a table %L', target),
                HINT = 'Name the target with its schema, such as ''crm.conversations''.';
        END IF;
        name := format('%I.%I', parts[1], parts[2]);
        SELECT string_agg(', ' || quote_ident(a.attname), '' ORDER BY a.attname) INTO indexed
        FROM pancake.sync_walk(object) w JOIN pg_attribute a ON a.attname IN (w.thread, w.dated)
        WHERE a.attrelid = source AND NOT a.attisdropped;
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
        RETURN array_remove(ARRAY[
            format('CREATE TABLE %s (page_id text NOT NULL, %s, synced_at timestamp with time zone NOT NULL, '
                   'removed_at timestamp with time zone, PRIMARY KEY (page_id, id))', name, columns),
            CASE WHEN indexed IS NOT NULL THEN format('CREATE INDEX ON %s (page_id%s)', name, indexed) END], NULL);
    END $$;
COMMENT ON FUNCTION sync_definition(regclass, text, text, name) IS 'internal: how a target is made';

-- How the columns of a source fit those of a target: the texts that statements are made of.
CREATE FUNCTION sync_shape(
        job sync_job, OUT row_of_source text, OUT columns text, OUT cells text, OUT compared text, OUT key text,
        OUT assignments text, OUT unlike text, OUT has_page boolean, OUT has_inserted boolean, OUT has_synced boolean,
        OUT has_removed boolean, OUT version text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        name CONSTANT text := pancake.sync_name(job.target);
        walk CONSTANT record := pancake.sync_walk(job.object);
        list CONSTANT regclass := coalesce(job.list, job.source);
        bad record;
        named text[];
    BEGIN
        version := walk.version;
        IF (SELECT c.relkind NOT IN ('r', 'p') FROM pg_class c WHERE c.oid = job.target) THEN
            RAISE wrong_object_type USING MESSAGE = format('%s is not a table', name),
                HINT = 'The target of a sync is an ordinary or a partitioned table.';
        END IF;
        SELECT r.relation, r.column INTO bad
        FROM (VALUES (job.source, 'id', '{text,varchar}'::regtype[]), (job.source, walk.thread, '{text,varchar}'),
                     (job.source, walk.dated, '{timestamptz}'), (list, 'id', '{text,varchar}'),
                     (list, walk.begun, '{timestamptz}'), (list, walk.changed, '{timestamptz}'),
                     (job.target, 'id', '{text,varchar}'), (job.target, walk.thread, '{text,varchar}'),
                     (job.target, walk.dated, '{timestamptz,timestamp}')) AS r (relation, "column", types)
        WHERE r.column IS NOT NULL AND NOT EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = r.relation AND a.attname = r.column AND NOT a.attisdropped
                AND a.atttypid = ANY (r.types));
        IF FOUND THEN
            RAISE undefined_column USING
                MESSAGE = format('%s has no column %I that a sync can use', pancake.sync_name(bad.relation), bad.column),
                HINT = format('Source and target need id (text)%s%s.', ', ' || walk.thread || ' (text)',
                    ' and ' || walk.dated || ' (timestamp with time zone)'
                    || CASE WHEN job.list IS NOT NULL
                        THEN format(', %s also %s and %s', job.list, walk.begun, walk.changed)
                            WHEN walk.begun <> walk.dated THEN ', the source also ' || walk.begun ELSE '' END);
        END IF;
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type INTO bad
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_attribute s ON s.attrelid = job.source AND s.attname = a.attname AND s.attnum > 0
        WHERE a.attrelid = job.target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
          AND (s.atttypid = 'timestamptz'::regtype OR a.attname IN ('synced_at', 'removed_at'))
          -- A domain puts its values out as its type does.
          AND t.typoutput = ANY ('{timestamp_out,date_out,time_out,timetz_out}'::regproc[]);
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
                HINT = CASE WHEN (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = job.target)
                    THEN 'A unique key of a partitioned table holds what it is partitioned by: partition it by page_id or id.'
                    ELSE format('CREATE UNIQUE INDEX ON %s (page_id, id);', name) END;
        END IF;
        SELECT string_agg(quote_ident(n), ', ' ORDER BY n DESC) INTO key FROM unnest(named) n;

        SELECT bool_or(a.attname = 'page_id'), bool_or(a.attname = 'inserted_at'),
               bool_or(a.attname = 'synced_at'), bool_or(a.attname = 'removed_at'),
               string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FILTER (WHERE s.attname IS NOT NULL),
               string_agg(c.cell, ', ' ORDER BY a.attnum) FILTER (WHERE s.attname IS NOT NULL),
               -- As the target will hold them.
               string_agg(format('%s::%s AS %I', c.cell, format_type(a.atttypid, a.atttypmod), a.attname),
                   ', ' ORDER BY a.attnum) FILTER (WHERE s.attname IS NOT NULL),
               string_agg(format('%1$I = EXCLUDED.%1$I', a.attname), ', ' ORDER BY a.attnum)
                   FILTER (WHERE s.attname IS NOT NULL AND a.attname <> 'id'),
               format('pg_catalog.record_image_ne(ROW(%s), ROW(%s))',
                   string_agg(format('t.%I', a.attname), ', ' ORDER BY a.attnum)
                       FILTER (WHERE s.attname IS NOT NULL AND a.attname <> 'id'),
                   string_agg(format('EXCLUDED.%I', a.attname), ', ' ORDER BY a.attnum)
                       FILTER (WHERE s.attname IS NOT NULL AND a.attname <> 'id'))
        INTO has_page, has_inserted, has_synced, has_removed, columns, cells, compared, assignments, unlike
        FROM pg_attribute a
        LEFT JOIN pg_attribute s ON s.attrelid = job.source AND s.attname = a.attname AND s.attnum > 0
            AND NOT s.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a'
            AND a.attname NOT IN ('page_id', 'synced_at', 'removed_at')
        CROSS JOIN LATERAL (
            SELECT format(CASE WHEN a.atttypid = 'jsonb'::regtype AND s.atttypid <> 'jsonb'::regtype
                              THEN 'pg_catalog.to_jsonb(s.%I)' ELSE 's.%I' END, a.attname)) AS c (cell)
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

