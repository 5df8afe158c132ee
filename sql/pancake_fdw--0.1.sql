-- pancake_fdw 0.1. Written by hand; the C functions are in src/fdw.
\echo Use "CREATE EXTENSION pancake_fdw" to load this file. \quit

CREATE FUNCTION pancake_fdw_handler() RETURNS fdw_handler
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pancake_fdw_handler';

CREATE FUNCTION pancake_fdw_validator(text[], oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pancake_fdw_validator';

CREATE FOREIGN DATA WRAPPER pancake_fdw HANDLER pancake_fdw_handler VALIDATOR pancake_fdw_validator;

-- ---------------------------------------------------------------------------------------------------------------
-- For a bug report
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION build_versions() RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_library_version';
COMMENT ON FUNCTION build_versions() IS 'internal: what version() is made of';

CREATE FUNCTION version(OUT extension text, OUT library text, OUT postgres text, OUT pgrx text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT e.extversion, v.j ->> 'library', pg_catalog.current_setting('server_version'), v.j ->> 'pgrx'
        FROM pg_catalog.pg_extension e, (SELECT pancake.build_versions()::jsonb) v (j)
        WHERE e.extname = 'pancake_fdw'
    $$;
COMMENT ON FUNCTION version() IS 'versions of extension, library, Postgres and pgrx, for a bug report';

-- ---------------------------------------------------------------------------------------------------------------
-- What is asked of Pancake: per page over all sessions, and the scans that run now
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION request_stats_json() RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_request_stats';
CREATE FUNCTION progress_json() RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_progress';
CREATE FUNCTION request_stats_reset() RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_request_stats_reset';
COMMENT ON FUNCTION request_stats_reset() IS 'sets the counters of request_stats to zero';

-- These see all roles' work. A view checks the functions that it calls against its reader, so the views stand on
-- functions that run as their owner and show the reader's part.
REVOKE ALL ON FUNCTION request_stats_json(), progress_json(), request_stats_reset() FROM PUBLIC;

-- Who reads, as seen from a function that runs as its owner: current_user is the owner there.
CREATE FUNCTION reader() RETURNS name
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role')::name END
    $$;
COMMENT ON FUNCTION reader() IS 'internal: whose rights the views go by';

-- Members of pg_monitor see every page, others the pages of the servers that they may use.
CREATE FUNCTION visible_request_stats(
        OUT page_id text, OUT requests bigint, OUT rows bigint, OUT bytes bigint, OUT retries bigint,
        OUT throttled bigint, OUT errors bigint, OUT limit_wait_ms bigint, OUT rate numeric,
        OUT last_request_at timestamptz, OUT last_error_at timestamptz, OUT last_sqlstate text, OUT last_error text,
        OUT since timestamptz) RETURNS SETOF record
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT s.*
        FROM jsonb_to_recordset(pancake.request_stats_json()::jsonb) AS s (
            page_id text, requests bigint, rows bigint, bytes bigint, retries bigint, throttled bigint, errors bigint,
            limit_wait_ms bigint, rate numeric, last_request_at timestamptz, last_error_at timestamptz,
            last_sqlstate text, last_error text, since timestamptz)
        WHERE pg_has_role(pancake.reader(), 'pg_monitor', 'USAGE')
           OR s.page_id IN (
                SELECT o.option_value
                FROM pg_foreign_server f
                CROSS JOIN LATERAL pg_options_to_table(f.srvoptions) o
                WHERE o.option_name = 'page_id' AND has_server_privilege(pancake.reader(), f.oid, 'USAGE'))
           OR s.page_id IN (
                SELECT o.option_value
                FROM pg_foreign_table t
                CROSS JOIN LATERAL pg_options_to_table(t.ftoptions) o
                WHERE o.option_name = 'page_id' AND has_table_privilege(pancake.reader(), t.ftrelid, 'SELECT'))
    $$;
COMMENT ON FUNCTION visible_request_stats() IS 'internal: what request_stats shows';
CREATE VIEW request_stats AS SELECT * FROM visible_request_stats();
COMMENT ON VIEW request_stats IS 'requests to Pancake, per page, over all sessions and databases of the cluster';

-- Members of pg_monitor see every scan, others their own.
CREATE FUNCTION visible_progress(
        OUT pid bigint, OUT page_id text, OUT object text, OUT started_at timestamptz, OUT requests bigint,
        OUT rows bigint, OUT oldest_row timestamptz, OUT waiting_for text) RETURNS SETOF record
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT p.pid, p.page_id, p.object, p.started_at, p.requests, p.rows, p.oldest_row, p.waiting_for
        FROM jsonb_to_recordset(pancake.progress_json()::jsonb) AS p (
            pid bigint, role oid, page_id text, object text, started_at timestamptz, requests bigint, rows bigint,
            oldest_row timestamptz, waiting_for text)
        WHERE pg_has_role(pancake.reader(), 'pg_monitor', 'USAGE') OR pg_has_role(pancake.reader(), p.role, 'USAGE')
    $$;
COMMENT ON FUNCTION visible_progress() IS 'internal: what progress shows';
CREATE VIEW progress AS SELECT * FROM visible_progress();
COMMENT ON VIEW progress IS 'scans of foreign tables that run now, in all databases of the cluster';

-- ---------------------------------------------------------------------------------------------------------------
-- How a page really answers
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION doctor_json(server name, pages text[]) RETURNS text
    LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pancake_fdw_doctor';
COMMENT ON FUNCTION doctor_json(name, text[]) IS 'internal: what doctor() shows, given the pages that tables of the server name';

CREATE FUNCTION doctor(server name, OUT item text, OUT status text, OUT detail text, OUT hint text) RETURNS SETOF record
    LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE ROWS 16
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT f.item, f.status, f.detail, f.hint
        FROM jsonb_to_recordset(pancake.doctor_json(server, ARRAY(
            SELECT DISTINCT o.option_value COLLATE "C"
            FROM pg_foreign_table t JOIN pg_foreign_server s ON s.oid = t.ftserver, pg_options_to_table(t.ftoptions) o
            WHERE s.srvname = doctor.server AND o.option_name = 'page_id'
            ORDER BY 1
        ))::jsonb) AS f (item text, status text, detail text, hint text)
    $$;
COMMENT ON FUNCTION doctor(name) IS 'examines token, page and filters of a server with some twenty requests; changes nothing';

GRANT USAGE ON SCHEMA pancake TO PUBLIC;
GRANT SELECT ON request_stats, progress TO PUBLIC;
GRANT EXECUTE ON FUNCTION request_stats_reset() TO pg_monitor;
