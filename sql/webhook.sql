-- Webhooks: an event of Pancake is applied to the copies that a sync keeps (src/fdw/webhook.rs).

CREATE FUNCTION pancake_internal.ingest(event text, conversations regclass, messages regclass) RETURNS text
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'pancake_fdw_ingest_wrapper';
COMMENT ON FUNCTION pancake_internal.ingest(text, regclass, regclass) IS 'applies an event to copies';

CREATE FUNCTION ingest(event jsonb, conversations regclass, messages regclass DEFAULT NULL) RETURNS text
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO'
    AS $$ SELECT pancake_internal.ingest(event::text, conversations, messages) $$;
COMMENT ON FUNCTION ingest(jsonb, regclass, regclass) IS
    'applies an event of a webhook to copies made by sync; returns inserted, updated, unchanged, stale, removed or ignored';
