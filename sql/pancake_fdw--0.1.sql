-- pancake_fdw 0.1. Written by hand; the C functions are in src/fdw.
\echo Use "CREATE EXTENSION pancake_fdw" to load this file. \quit

-- The schema pancake holds what people call, the other one all the rest.
CREATE SCHEMA pancake_internal;
GRANT USAGE ON SCHEMA pancake_internal TO PUBLIC;

CREATE FUNCTION pancake_internal.pancake_fdw_handler() RETURNS fdw_handler
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pancake_fdw_handler_wrapper';

CREATE FUNCTION pancake_internal.pancake_fdw_validator(text[], oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pancake_fdw_validator_wrapper';

CREATE FOREIGN DATA WRAPPER pancake_fdw
    HANDLER pancake_internal.pancake_fdw_handler VALIDATOR pancake_internal.pancake_fdw_validator;

-- ---------------------------------------------------------------------------------------------------------------
-- For a bug report
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION pancake_internal.build_versions(OUT library text, OUT pgrx text) RETURNS SETOF record
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_build_wrapper';
COMMENT ON FUNCTION pancake_internal.build_versions() IS 'what version() is made of';

CREATE FUNCTION version(OUT extension text, OUT library text, OUT postgres text, OUT pgrx text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT e.extversion, v.library, pg_catalog.current_setting('server_version'), v.pgrx
        FROM pg_catalog.pg_extension e, pancake_internal.build_versions() v
        WHERE e.extname = 'pancake_fdw'
    $$;
COMMENT ON FUNCTION version() IS 'versions of extension, library, Postgres and pgrx, for a bug report';

-- ---------------------------------------------------------------------------------------------------------------
-- What is asked of Pancake: per page over all sessions, and the scans that run now
-- ---------------------------------------------------------------------------------------------------------------
-- Both functions look at the work of all roles and return what current_user may see of it. A view
-- calls functions with the rights of current_user, not with those of its own owner.
CREATE FUNCTION pancake_internal.request_stats_rows(
        OUT page_id text, OUT requests bigint, OUT rows bigint, OUT bytes bigint, OUT retries bigint,
        OUT throttled bigint, OUT errors bigint, OUT limit_wait_ms bigint, OUT rate numeric,
        OUT last_request_at timestamptz, OUT last_error_at timestamptz, OUT last_sqlstate text,
        OUT last_error text, OUT since timestamptz) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_request_stats_wrapper';
COMMENT ON FUNCTION pancake_internal.request_stats_rows() IS 'what request_stats shows';
CREATE FUNCTION pancake_internal.progress_rows(
        OUT pid integer, OUT page_id text, OUT object text, OUT started_at timestamptz, OUT requests bigint,
        OUT rows bigint, OUT oldest_row timestamptz, OUT waiting_for text) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_progress_wrapper';
COMMENT ON FUNCTION pancake_internal.progress_rows() IS 'what progress shows';
CREATE FUNCTION request_stats_reset() RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'pancake_fdw_request_stats_reset_wrapper';
COMMENT ON FUNCTION request_stats_reset() IS 'sets the counters of request_stats to zero';
REVOKE ALL ON FUNCTION request_stats_reset() FROM PUBLIC;

CREATE VIEW request_stats AS SELECT * FROM pancake_internal.request_stats_rows();
COMMENT ON VIEW request_stats IS 'requests to Pancake, per page, over all sessions and databases of the cluster';

CREATE VIEW progress AS SELECT * FROM pancake_internal.progress_rows();
COMMENT ON VIEW progress IS 'scans of foreign tables that run now, in all databases of the cluster';

-- ---------------------------------------------------------------------------------------------------------------
-- How a page really answers
-- ---------------------------------------------------------------------------------------------------------------
CREATE FUNCTION pancake_internal.examine(
        server name, pages text[], OUT item text, OUT status text, OUT detail text, OUT hint text) RETURNS SETOF record
    LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pancake_fdw_doctor_wrapper';
COMMENT ON FUNCTION pancake_internal.examine(name, text[]) IS 'what doctor() shows, given the pages that tables of the server name';

CREATE FUNCTION doctor(server name, OUT item text, OUT status text, OUT detail text, OUT hint text) RETURNS SETOF record
    LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE ROWS 26
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT f.item, f.status, f.detail, f.hint
        FROM pancake_internal.examine(server, ARRAY(
            SELECT DISTINCT o.option_value COLLATE "C"
            FROM pg_foreign_table t JOIN pg_foreign_server s ON s.oid = t.ftserver, pg_options_to_table(t.ftoptions) o
            WHERE s.srvname = doctor.server AND o.option_name = 'page_id'
            ORDER BY 1
        )) f
    $$;
COMMENT ON FUNCTION doctor(name) IS 'examines token, page and filters of a server with at most 40 requests; changes nothing';

GRANT USAGE ON SCHEMA pancake TO PUBLIC;
GRANT SELECT ON request_stats, progress TO PUBLIC;
GRANT EXECUTE ON FUNCTION request_stats_reset() TO pg_monitor;
