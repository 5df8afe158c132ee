-- Webhooks: an event of Pancake is applied to the copies that a sync keeps. What an event holds is
-- read by the library; which of it is newer than the copy is decided here, under a lock on the row.

CREATE FUNCTION webhook_event(
        event text, OUT page_id text, OUT conversation_id text, OUT version bigint, OUT sent_at timestamptz,
        OUT is_removed boolean, OUT conversation jsonb, OUT changes jsonb, OUT message_id text,
        OUT message_at timestamptz, OUT message_is_removed boolean, OUT message jsonb) RETURNS SETOF record
    LANGUAGE c STRICT IMMUTABLE AS 'MODULE_PATHNAME', 'pancake_fdw_webhook_event_wrapper';
COMMENT ON FUNCTION webhook_event(text) IS 'internal: what an event holds';

-- The stored row as JSON, locked until the end of the transaction.
CREATE FUNCTION webhook_row(target regclass, id text, page_id text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        stored jsonb;
    BEGIN
        -- A target need not have page_id.
        EXECUTE format('SELECT to_jsonb(t) FROM %s t '
            'WHERE t.id = $1 AND coalesce(to_jsonb(t) ->> ''page_id'', $2) = $2 FOR UPDATE', target)
        INTO stored USING id, page_id;
        RETURN stored;
    END $$;
COMMENT ON FUNCTION webhook_row(regclass, text, text) IS 'internal: a row of a target, locked';

-- Adds a row, and returns whether there was none. Cells that the target has no column for are left
-- out.
CREATE FUNCTION webhook_insert(target regclass, made jsonb) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        names CONSTANT text := (
            SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
            WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND made ? a.attname);
        inserted bigint;
    BEGIN
        EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1) ON CONFLICT DO NOTHING',
            target, names) USING made;
        GET DIAGNOSTICS inserted = ROW_COUNT;
        RETURN inserted > 0;
    END $$;
COMMENT ON FUNCTION webhook_insert(regclass, jsonb) IS 'internal: adds a row to a target';

-- The cells that differ from the stored row, by the types of the target.
CREATE FUNCTION webhook_differing(target regclass, stored jsonb, cells jsonb) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        fresh jsonb;
    BEGIN
        EXECUTE format('SELECT to_jsonb(jsonb_populate_record(NULL::%s, $1))', target)
        INTO fresh USING cells;
        RETURN ARRAY(SELECT k FROM jsonb_object_keys(cells) k WHERE stored ? k AND fresh -> k IS DISTINCT FROM stored -> k);
    END $$;
COMMENT ON FUNCTION webhook_differing(regclass, jsonb, jsonb) IS 'internal: which cells of an event differ';

CREATE FUNCTION webhook_write(target regclass, stored jsonb, page_id text, cells jsonb, names text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        IF stored ? 'synced_at' AND names <> '{webhook_version}' THEN
            cells := cells || jsonb_build_object('synced_at', clock_timestamp());
            names := names || 'synced_at'::text;
        END IF;
        EXECUTE format('UPDATE %1$s t SET %2$s FROM jsonb_populate_record(NULL::%1$s, $3) f WHERE t.id = $1%3$s', target,
            (SELECT string_agg(format('%1$I = f.%1$I', n), ', ') FROM unnest(names) n),
            CASE WHEN stored ? 'page_id' THEN ' AND (t.page_id::text = $2 OR t.page_id IS NULL)' END)
        USING stored ->> 'id', page_id, cells;
    END $$;
COMMENT ON FUNCTION webhook_write(regclass, jsonb, text, jsonb, text[]) IS 'internal: writes cells of a row';

-- An event has ids of tags and no names: those that the row came with, or has, are kept.
CREATE FUNCTION webhook_tag_names(stored jsonb, tags jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT coalesce(jsonb_agg(coalesce(
                (SELECT s.tag -> 'text' FROM jsonb_path_query(stored, 'lax $.raw.tags[*]') s (tag)
                 WHERE s.tag ->> 'id' = n.id LIMIT 1),
                (SELECT stored -> 'tag_names' -> (s.place::integer - 1)
                 FROM jsonb_array_elements_text(stored -> 'tags') WITH ORDINALITY s (id, place) WHERE s.id = n.id LIMIT 1))
            ORDER BY n.place), '[]')
        FROM jsonb_array_elements_text(tags) WITH ORDINALITY n (id, place)
    $$;
COMMENT ON FUNCTION webhook_tag_names(jsonb, jsonb) IS 'internal: the names of the tags of an event';

-- A conversation follows an event about itself that has a greater version than the last one and was
-- not sent long before the row was written, and an event about a message that is not older than the
-- row's newest.
CREATE FUNCTION webhook_conversation(target regclass, e record) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        stored jsonb;
        cells jsonb := e.changes;
        names text[];
        result text;
    BEGIN
        FOR attempt IN 1 .. 2 LOOP
            stored := pancake.webhook_row(target, e.conversation_id, e.page_id);
            EXIT WHEN stored IS NOT NULL;
            -- Without a message nothing dates the conversation: the next delta reads it.
            IF e.message_at IS NULL THEN
                RETURN 'ignored';
            END IF;
            IF pancake.webhook_insert(target, e.conversation || jsonb_build_object(
                    'inserted_at', e.message_at, 'updated_at', e.message_at, 'synced_at', clock_timestamp())) THEN
                RETURN 'inserted';
            END IF;
        END LOOP;
        IF stored IS NULL THEN
            RAISE unique_violation USING
                MESSAGE = format('row %s of page %s has the id of another page''s row', quote_literal(e.conversation_id), e.page_id),
                HINT = 'Give the target the key (page_id, id) instead of (id), or each page a target of its own.';
        END IF;
        IF (stored ->> 'webhook_version')::bigint >= e.version
            OR e.version IS NOT NULL AND e.sent_at < (stored ->> 'synced_at')::timestamptz - interval '60 s'
            OR e.message_at < (stored ->> 'updated_at')::timestamptz THEN
            RETURN CASE WHEN (stored ->> 'webhook_version')::bigint = e.version THEN 'unchanged' ELSE 'stale' END;
        END IF;
        IF cells ? 'tags' AND stored ? 'tag_names' THEN
            cells := cells || jsonb_build_object('tag_names', pancake.webhook_tag_names(stored, cells -> 'tags'));
        END IF;
        IF e.message_at IS NOT NULL THEN
            cells := cells || jsonb_build_object('updated_at', e.message_at);
        END IF;
        IF e.is_removed <> (stored ->> 'removed_at' IS NOT NULL) THEN
            cells := cells || jsonb_build_object('removed_at', CASE WHEN e.is_removed THEN clock_timestamp() END);
        END IF;
        names := pancake.webhook_differing(target, stored, cells);
        result := CASE WHEN names = '{}' THEN 'unchanged' WHEN 'removed_at' = ANY (names) AND e.is_removed THEN 'removed'
            ELSE 'updated' END;
        IF e.version IS NOT NULL THEN
            IF NOT stored ? 'webhook_version' THEN
                EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS webhook_version bigint', target);
            END IF;
            cells := cells || jsonb_build_object('webhook_version', e.version);
            names := names || 'webhook_version'::text;
        END IF;
        IF names <> '{}' THEN
            PERFORM pancake.webhook_write(target, stored, e.page_id, cells, names);
        END IF;
        RETURN result;
    END $$;
COMMENT ON FUNCTION webhook_conversation(regclass, record) IS 'internal: applies an event to a conversation';

-- A message has no version: one that differs is written over if the event was not sent long before
-- the row was written. `raw` is as another endpoint has it.
CREATE FUNCTION webhook_message(target regclass, e record) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        cells CONSTANT jsonb := e.message - 'raw';
        stored jsonb;
        names text[];
    BEGIN
        IF pancake.webhook_insert(target, e.message || jsonb_build_object('synced_at', clock_timestamp())) THEN
            RETURN 'inserted';
        END IF;
        stored := pancake.webhook_row(target, e.message_id, e.page_id);
        names := pancake.webhook_differing(target, stored, cells);
        IF names = '{}' THEN
            RETURN 'unchanged';
        END IF;
        IF e.sent_at IS NULL OR e.sent_at < (stored ->> 'synced_at')::timestamptz - interval '60 s' THEN
            RETURN 'stale';
        END IF;
        PERFORM pancake.webhook_write(target, stored, e.page_id, cells, names);
        RETURN CASE WHEN 'is_removed' = ANY (names) AND e.message_is_removed THEN 'removed' ELSE 'updated' END;
    END $$;
COMMENT ON FUNCTION webhook_message(regclass, record) IS 'internal: applies an event to a message';

-- Of an event about a message the result is what became of the message, if its table is given.
CREATE FUNCTION ingest(event jsonb, conversations regclass, messages regclass DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        e record;
        copied record;
        result text := 'ignored';
    BEGIN
        SELECT * INTO e FROM pancake.webhook_event(event::text);
        IF NOT FOUND THEN
            RETURN 'ignored';
        END IF;
        SELECT bool_or(s.target = conversations) AS conversations, bool_or(s.target = messages) AS messages INTO copied
        FROM pancake.sync_state s WHERE s.page_id = e.page_id;
        IF copied.conversations THEN
            result := pancake.webhook_conversation(conversations, e);
        END IF;
        IF copied.messages AND e.message_id IS NOT NULL THEN
            result := pancake.webhook_message(messages, e);
        END IF;
        RETURN result;
    END $$;
COMMENT ON FUNCTION ingest(jsonb, regclass, regclass) IS
    'applies an event of a webhook to copies made by sync; returns inserted, updated, unchanged, stale, removed or ignored';
