-- Webhooks: an event of Pancake is applied to the copies that a sync keeps. What an event holds is
-- read by the library; which of it is newer than the copy is decided here, under a lock on the row.

CREATE FUNCTION pancake_internal.webhook_event(
        event text, OUT page_id text, OUT conversation_id text, OUT version bigint, OUT sent_at timestamptz,
        OUT is_removed boolean, OUT conversation jsonb, OUT changes jsonb, OUT message_id text,
        OUT message_at timestamptz, OUT message jsonb) RETURNS SETOF record
    LANGUAGE c STRICT IMMUTABLE AS 'MODULE_PATHNAME', 'pancake_fdw_webhook_event_wrapper';
COMMENT ON FUNCTION pancake_internal.webhook_event(text) IS 'what an event holds';

-- A table that a sync keeps as a copy of a page: how a row of it is found ($1 is the id, $2 the
-- page), and the columns that are written, as by sync those that the source declares by its names.
CREATE TYPE pancake_internal.webhook_copy AS (target regclass, key text, columns text[]);

CREATE FUNCTION pancake_internal.webhook_copy_of(target regclass, page_id text, object text) RETURNS pancake_internal.webhook_copy
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        s record;
        has_source boolean;
        copy pancake_internal.webhook_copy;
    BEGIN
        SELECT m.source, m.object INTO s FROM pancake.sync_state m WHERE m.target = webhook_copy_of.target AND m.page_id = webhook_copy_of.page_id;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        IF s.object <> webhook_copy_of.object THEN
            RAISE wrong_object_type USING MESSAGE = format('%s is a copy of %s, not of %s', target, s.object, webhook_copy_of.object);
        END IF;
        has_source := EXISTS (SELECT FROM pg_class c WHERE c.oid = s.source);
        SELECT target,
            concat(' WHERE ', string_agg(
                format(CASE WHEN a.attname = 'page_id' AND NOT a.attnotnull THEN '(t.%1$I = %2$s::%3$s OR t.%1$I IS NULL)'
                            ELSE 't.%1$I = %2$s::%3$s' END,
                    a.attname, CASE a.attname WHEN 'id' THEN '$1' ELSE '$2' END, a.atttypid::regtype), ' AND ')
                FILTER (WHERE a.attname IN ('id', 'page_id'))),
            array_agg(a.attname) FILTER (WHERE a.attgenerated = '' AND a.attidentity <> 'a'
                AND (d.attname IS NOT NULL OR NOT has_source
                    OR a.attname IN ('page_id', 'synced_at', 'removed_at', 'webhook_version')))
        INTO copy
        FROM pg_attribute a LEFT JOIN pg_attribute d
            ON d.attrelid = s.source AND d.attname = a.attname AND NOT d.attisdropped
               AND (d.attfdwoptions IS NULL OR NOT EXISTS (SELECT FROM unnest(d.attfdwoptions) o WHERE starts_with(o, 'path=')))
        WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped;
        RETURN copy;
    END $$;
COMMENT ON FUNCTION pancake_internal.webhook_copy_of(regclass, text, text) IS 'how a copy is written';

-- The stored row as JSON, locked until the end of the transaction.
CREATE FUNCTION pancake_internal.webhook_row(copy pancake_internal.webhook_copy, id text, page_id text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        stored jsonb;
    BEGIN
        EXECUTE format('SELECT to_jsonb(t) FROM %s t%s FOR UPDATE', copy.target, copy.key) INTO stored USING id, page_id;
        RETURN stored;
    END $$;
COMMENT ON FUNCTION pancake_internal.webhook_row(pancake_internal.webhook_copy, text, text) IS 'a row of a copy, locked';

-- Adds a row, and returns whether there was none. Cells that the copy has no column for are left
-- out.
CREATE FUNCTION pancake_internal.webhook_insert(copy pancake_internal.webhook_copy, cells jsonb) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        names CONSTANT text := (SELECT string_agg(quote_ident(n), ', ') FROM unnest(copy.columns) n WHERE cells ? n);
        inserted bigint;
    BEGIN
        EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1) ON CONFLICT DO NOTHING',
            copy.target, names) USING cells;
        GET DIAGNOSTICS inserted = ROW_COUNT;
        RETURN inserted > 0;
    END $$;
COMMENT ON FUNCTION pancake_internal.webhook_insert(pancake_internal.webhook_copy, jsonb) IS 'adds a row to a copy';

CREATE FUNCTION pancake_internal.webhook_clash(copy pancake_internal.webhook_copy, id text, page_id text) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        RAISE unique_violation USING
            MESSAGE = format('row %s of page %s conflicts with another row of %s', quote_literal(id), page_id, copy.target),
            HINT = 'Give the target the key (page_id, id) and no other unique index, or each page a target of its own.';
    END $$;
COMMENT ON FUNCTION pancake_internal.webhook_clash(pancake_internal.webhook_copy, text, text) IS 'raises where a row can neither be added nor found';

-- The cells that differ from the stored row, by the types of the copy.
CREATE FUNCTION pancake_internal.webhook_differing(copy pancake_internal.webhook_copy, stored jsonb, cells jsonb) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        fresh jsonb;
    BEGIN
        EXECUTE format('SELECT to_jsonb(jsonb_populate_record(NULL::%s, $1))', copy.target) INTO fresh USING cells;
        RETURN ARRAY(SELECT n FROM unnest(copy.columns) n WHERE cells ? n AND fresh -> n IS DISTINCT FROM stored -> n);
    END $$;
COMMENT ON FUNCTION pancake_internal.webhook_differing(pancake_internal.webhook_copy, jsonb, jsonb) IS 'which cells of an event differ';

CREATE FUNCTION pancake_internal.webhook_write(copy pancake_internal.webhook_copy, id text, page_id text, cells jsonb, names text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        IF 'synced_at' = ANY (copy.columns) AND names <> '{webhook_version}' THEN
            cells := cells || jsonb_build_object('synced_at', clock_timestamp());
            names := names || 'synced_at'::text;
        END IF;
        EXECUTE format('UPDATE %1$s t SET %2$s FROM jsonb_populate_record(NULL::%1$s, $3) f%3$s', copy.target,
            (SELECT string_agg(format('%1$I = f.%1$I', n), ', ') FROM unnest(names) n), copy.key)
        USING id, page_id, cells;
    END $$;
COMMENT ON FUNCTION pancake_internal.webhook_write(pancake_internal.webhook_copy, text, text, jsonb, text[]) IS 'writes cells of a row';

-- An event has ids of tags and no names: those that the row came with, or has, are kept.
CREATE FUNCTION pancake_internal.webhook_tag_names(stored jsonb, tags jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT coalesce(jsonb_agg(coalesce(
                (SELECT s.tag -> 'text' FROM jsonb_path_query(stored, 'lax $.raw.tags[*]') s (tag)
                 WHERE s.tag ->> 'id' = n.id LIMIT 1),
                (SELECT stored -> 'tag_names' -> (s.place::integer - 1)
                 FROM jsonb_path_query(stored, 'lax $.tags[*]') WITH ORDINALITY s (id, place) WHERE s.id #>> '{}' = n.id LIMIT 1))
            ORDER BY n.place), '[]')
        FROM jsonb_array_elements_text(tags) WITH ORDINALITY n (id, place)
    $$;
COMMENT ON FUNCTION pancake_internal.webhook_tag_names(jsonb, jsonb) IS 'the names of the tags of an event';

-- A conversation follows an event about itself that has a greater version than the last one and was
-- not sent long before the row was written, and an event about a message that is not older than the
-- row's newest. `is_known`: whether the message was stored before, if that can be seen.
CREATE FUNCTION pancake_internal.webhook_conversation(copy pancake_internal.webhook_copy, e record, is_known boolean) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        stored jsonb;
        cells jsonb := e.changes;
        is_again boolean;
        names text[];
        result text;
    BEGIN
        FOR attempt IN 1 .. 2 LOOP
            stored := pancake_internal.webhook_row(copy, e.conversation_id, e.page_id);
            EXIT WHEN stored IS NOT NULL;
            -- Without a message nothing dates the conversation: the next delta reads it.
            IF e.message_at IS NULL THEN
                RETURN 'ignored';
            END IF;
            IF pancake_internal.webhook_insert(copy, e.conversation || jsonb_build_object(
                    'inserted_at', e.message_at, 'updated_at', e.message_at, 'synced_at', clock_timestamp(),
                    'removed_at', CASE WHEN e.is_removed THEN clock_timestamp() END)) THEN
                RETURN 'inserted';
            END IF;
        END LOOP;
        IF stored IS NULL THEN
            PERFORM pancake_internal.webhook_clash(copy, e.conversation_id, e.page_id);
        END IF;
        is_again := e.message_at = (stored ->> 'updated_at')::timestamptz
            AND coalesce(is_known, e.sent_at < (stored ->> 'synced_at')::timestamptz);
        IF (stored ->> 'webhook_version')::bigint >= e.version
            OR e.version IS NOT NULL AND e.sent_at < (stored ->> 'synced_at')::timestamptz - interval '60 s'
            OR e.message_at < (stored ->> 'updated_at')::timestamptz
            OR is_again THEN
            RETURN CASE WHEN (stored ->> 'webhook_version')::bigint = e.version OR is_again THEN 'unchanged' ELSE 'stale' END;
        END IF;
        IF cells ? 'tags' THEN
            cells := cells || jsonb_build_object('tag_names', pancake_internal.webhook_tag_names(stored, cells -> 'tags'));
        END IF;
        IF e.message_at IS NOT NULL THEN
            cells := cells || jsonb_build_object('updated_at', e.message_at);
        END IF;
        -- A message that was sent before the removal does not bring the conversation back.
        IF e.is_removed AND stored ->> 'removed_at' IS NULL
            OR NOT e.is_removed AND (e.version IS NOT NULL OR coalesce(e.sent_at, e.message_at) > (stored ->> 'removed_at')::timestamptz) THEN
            cells := cells || jsonb_build_object('removed_at', CASE WHEN e.is_removed THEN clock_timestamp() END);
        END IF;
        names := pancake_internal.webhook_differing(copy, stored, cells);
        result := CASE WHEN names = '{}' THEN 'unchanged' WHEN 'removed_at' = ANY (names) AND e.is_removed THEN 'removed'
            ELSE 'updated' END;
        IF e.version IS NOT NULL THEN
            cells := cells || jsonb_build_object('webhook_version', e.version);
            names := names || 'webhook_version'::text;
        END IF;
        IF names <> '{}' THEN
            PERFORM pancake_internal.webhook_write(copy, e.conversation_id, e.page_id, cells, names);
        END IF;
        RETURN result;
    END $$;
COMMENT ON FUNCTION pancake_internal.webhook_conversation(pancake_internal.webhook_copy, record, boolean) IS 'applies an event to a conversation';

-- A message has no version: one that differs is written over if the event was not sent long before
-- the row was written. One that was taken back stays so, and `raw` is as another endpoint has it.
CREATE FUNCTION pancake_internal.webhook_message(copy pancake_internal.webhook_copy, e record) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        cells jsonb := e.message - 'raw';
        stored jsonb;
        names text[];
    BEGIN
        IF pancake_internal.webhook_insert(copy, e.message || jsonb_build_object('synced_at', clock_timestamp())) THEN
            RETURN 'inserted';
        END IF;
        stored := pancake_internal.webhook_row(copy, e.message_id, e.page_id);
        IF stored IS NULL THEN
            PERFORM pancake_internal.webhook_clash(copy, e.message_id, e.page_id);
        END IF;
        IF stored -> 'is_removed' = 'true' THEN
            cells := cells - 'is_removed';
        END IF;
        names := pancake_internal.webhook_differing(copy, stored, cells);
        IF names = '{}' THEN
            RETURN 'unchanged';
        END IF;
        IF e.sent_at IS NULL OR e.sent_at < (stored ->> 'synced_at')::timestamptz - interval '60 s' THEN
            RETURN 'stale';
        END IF;
        PERFORM pancake_internal.webhook_write(copy, e.message_id, e.page_id, cells, names);
        RETURN CASE WHEN 'is_removed' = ANY (names) AND cells -> 'is_removed' = 'true' THEN 'removed' ELSE 'updated' END;
    END $$;
COMMENT ON FUNCTION pancake_internal.webhook_message(pancake_internal.webhook_copy, record) IS 'applies an event to a message';

-- Before a row is locked: nothing else of this transaction waits while others read the table.
CREATE FUNCTION pancake_internal.webhook_add_version(target regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS webhook_version bigint', target);
    EXCEPTION WHEN insufficient_privilege OR wrong_object_type THEN
        RAISE USING ERRCODE = SQLSTATE, MESSAGE = format('%s lacks the column webhook_version', target), DETAIL = SQLERRM,
            HINT = 'Its owner adds it once, of a partition to the parent: ALTER TABLE … ADD COLUMN webhook_version bigint;';
    END $$;
COMMENT ON FUNCTION pancake_internal.webhook_add_version(regclass) IS 'adds the column that keeps the version of events';

-- Of an event about a message the result is what became of the message, if its table is given.
CREATE FUNCTION ingest(event jsonb, conversations regclass, messages regclass DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
    AS $$
    DECLARE
        e record;
        of_conversations pancake_internal.webhook_copy;
        of_messages pancake_internal.webhook_copy;
        of_message text;
        result text := 'ignored';
    BEGIN
        SELECT * INTO e FROM pancake_internal.webhook_event(event::text);
        IF NOT FOUND THEN
            RETURN 'ignored';
        END IF;
        of_conversations := pancake_internal.webhook_copy_of(conversations, e.page_id, 'conversations');
        of_messages := pancake_internal.webhook_copy_of(messages, e.page_id, 'messages');
        IF e.version IS NOT NULL AND of_conversations.target IS NOT NULL AND 'webhook_version' <> ALL (of_conversations.columns) THEN
            PERFORM pancake_internal.webhook_add_version(conversations);
            of_conversations.columns := of_conversations.columns || 'webhook_version'::text;
        END IF;
        IF e.message_id IS NOT NULL AND of_messages.target IS NOT NULL THEN
            of_message := pancake_internal.webhook_message(of_messages, e);
        END IF;
        IF of_conversations.target IS NOT NULL THEN
            result := pancake_internal.webhook_conversation(of_conversations, e, of_message <> 'inserted');
        END IF;
        RETURN coalesce(of_message, result);
    END $$;
COMMENT ON FUNCTION ingest(jsonb, regclass, regclass) IS
    'applies an event of a webhook to copies made by sync; returns inserted, updated, unchanged, stale, removed or ignored';
