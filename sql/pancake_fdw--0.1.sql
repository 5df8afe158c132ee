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
-- Both functions look at the work of all roles and return what current_user may see of it. A view
-- calls functions with the rights of current_user, not with those of its own owner.
CREATE FUNCTION request_stats_json() RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_request_stats';
COMMENT ON FUNCTION request_stats_json() IS 'internal: what request_stats shows';
CREATE FUNCTION progress_json() RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_progress';
COMMENT ON FUNCTION progress_json() IS 'internal: what progress shows';
CREATE FUNCTION request_stats_reset() RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_request_stats_reset';
COMMENT ON FUNCTION request_stats_reset() IS 'sets the counters of request_stats to zero';
REVOKE ALL ON FUNCTION request_stats_reset() FROM PUBLIC;

CREATE VIEW request_stats AS
    SELECT s.page_id, s.requests, s.rows, s.bytes, s.retries, s.throttled, s.errors, s.limit_wait_ms, s.rate,
           s.last_request_at, s.last_error_at, s.last_sqlstate, s.last_error, s.since
    FROM pg_catalog.jsonb_to_recordset(request_stats_json()::jsonb) AS s (
        page_id text, requests bigint, rows bigint, bytes bigint, retries bigint, throttled bigint, errors bigint,
        limit_wait_ms bigint, rate numeric, last_request_at timestamptz, last_error_at timestamptz,
        last_sqlstate text, last_error text, since timestamptz);
COMMENT ON VIEW request_stats IS 'requests to Pancake, per page, over all sessions and databases of the cluster';

CREATE VIEW progress AS
    SELECT p.pid, p.page_id, p.object, p.started_at, p.requests, p.rows, p.oldest_row, p.waiting_for
    FROM pg_catalog.jsonb_to_recordset(progress_json()::jsonb) AS p (
        pid bigint, page_id text, object text, started_at timestamptz, requests bigint, rows bigint,
        oldest_row timestamptz, waiting_for text);
COMMENT ON VIEW progress IS 'scans of foreign tables that run now, in all databases of the cluster';

-- ---------------------------------------------------------------------------------------------------------------
-- How a page really answers
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION doctor_json(server name, pages text[]) RETURNS text
    LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pancake_fdw_doctor';
COMMENT ON FUNCTION doctor_json(name, text[]) IS 'internal: what doctor() shows, given the pages that tables of the server name';

CREATE FUNCTION doctor(server name, OUT item text, OUT status text, OUT detail text, OUT hint text) RETURNS SETOF record
    LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE ROWS 26
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
COMMENT ON FUNCTION doctor(name) IS 'examines token, page and filters of a server with at most 40 requests; changes nothing';

GRANT USAGE ON SCHEMA pancake TO PUBLIC;
GRANT SELECT ON request_stats, progress TO PUBLIC;
GRANT EXECUTE ON FUNCTION request_stats_reset() TO pg_monitor;
