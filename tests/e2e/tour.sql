-- A tour of pancake_fdw over one page, run by `make demo` through psql:
--   psql -X -v ON_ERROR_STOP=1 -v page_id=… [-v base_url=…] -f tour.sql
-- The page's token comes from the environment, PANCAKE_PAGE_ACCESS_TOKEN, and is not shown.
-- Everything stays within the page's last day or has a LIMIT, so the tour may be taken over a real
-- shop.

\set QUIET on
\pset pager off
\pset linestyle unicode
\pset border 1
\pset null '∅'
\pset footer off
SET client_min_messages = warning;
SET TIME ZONE 'Asia/Ho_Chi_Minh';

\echo
\echo '━━━ 1. A page becomes a schema'
\echo
\set ECHO queries
CREATE EXTENSION IF NOT EXISTS pancake_fdw;
\if :{?base_url}
CREATE SERVER shop FOREIGN DATA WRAPPER pancake_fdw OPTIONS (page_id :'page_id', base_url :'base_url');
\else
CREATE SERVER shop FOREIGN DATA WRAPPER pancake_fdw OPTIONS (page_id :'page_id');
\endif
\set ECHO none
\set token `printf %s "$PANCAKE_PAGE_ACCESS_TOKEN"`
\echo 'CREATE USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (page_access_token ''…'');'
CREATE USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (page_access_token :'token');
\unset token
\set ECHO queries
CREATE SCHEMA shop;
IMPORT FOREIGN SCHEMA pancake FROM SERVER shop INTO shop;
SELECT foreign_table_name AS table FROM information_schema.foreign_tables WHERE foreign_table_schema = 'shop' ORDER BY 1;

\set ECHO none
\timing on
\echo
\echo '━━━ 2. Who wrote during the last day? Only that day is fetched.'
\echo
\set ECHO queries
SELECT type, count(*), count(*) FILTER (WHERE has_phone) AS with_phone, count(*) FILTER (WHERE NOT seen) AS unread
FROM shop.conversations
WHERE updated_at > now() - interval '1 day'
GROUP BY type ORDER BY 2 DESC;

\set ECHO none
\echo
\echo '━━━ 3. Filters: what is sent to Pancake, what is checked here. EXPLAIN tells without asking anybody.'
\echo
\timing off
SELECT tags[1] AS tag FROM shop.conversations
WHERE type = 'INBOX' AND tags <> '{}' AND updated_at > now() - interval '1 day' AND snippet <> '' LIMIT 1 \gset
\set ECHO queries
EXPLAIN (COSTS OFF)
SELECT customer_name, snippet FROM shop.conversations
WHERE type = 'INBOX' AND tags @> ARRAY[:'tag'] AND updated_at > now() - interval '1 day' AND snippet <> '';
\timing on
\echo
SELECT customer_name, tag_names, left(snippet, 40) AS snippet, updated_at FROM shop.conversations
WHERE type = 'INBOX' AND tags @> ARRAY[:'tag'] AND updated_at > now() - interval '1 day' AND snippet <> ''
LIMIT 5;

\set ECHO none
\echo
\echo '━━━ 4. The ten latest conversations: one request, because nobody asks for an eleventh.'
\echo
\set ECHO queries
SELECT type, customer_name, left(snippet, 40) AS snippet, updated_at FROM shop.conversations
ORDER BY updated_at DESC LIMIT 10;

\set ECHO none
\echo
\echo '━━━ 5. Beside your own data: a small CRM table, joined.'
\echo
\set ECHO queries
CREATE TEMP TABLE vip AS
    SELECT customer_id, 'gold' AS level FROM shop.conversations
    WHERE type = 'INBOX' AND customer_id IS NOT NULL ORDER BY updated_at DESC LIMIT 5;
\echo
SELECT level, customer_name, phone_numbers, updated_at
FROM vip JOIN shop.conversations USING (customer_id)
WHERE updated_at > now() - interval '1 day'
ORDER BY updated_at DESC;

\set ECHO none
\echo
\echo '━━━ 6. The rest of the shop: tags by their names, and what was said last. Messages are had by conversation.'
\echo
\set ECHO queries
SELECT t.text AS tag, count(c.id) AS conversations
FROM shop.tags t LEFT JOIN shop.conversations c ON t.id = ANY (c.tags) AND c.updated_at > now() - interval '1 day'
GROUP BY t.text ORDER BY 2 DESC LIMIT 5;
\echo
SELECT c.customer_name, m.inserted_at, coalesce(m.from_staff_name, m.from_name) AS who, left(m.text, 40) AS message
FROM (SELECT * FROM shop.conversations WHERE type = 'INBOX' ORDER BY updated_at DESC LIMIT 3) c,
     LATERAL (SELECT * FROM shop.messages WHERE conversation_id = c.id ORDER BY inserted_at DESC LIMIT 2) m;

\set ECHO none
\echo
\echo '━━━ 7. What a query costs: requests, rows, and where the time went.'
\echo
\set ECHO queries
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF)
SELECT id FROM shop.conversations WHERE updated_at > now() - interval '1 day';

\set ECHO none
\echo
\echo '━━━ 8. Fetched once, read often: a materialized view, refreshed when you like.'
\echo
\set ECHO queries
CREATE MATERIALIZED VIEW busy_hours AS
    SELECT date_trunc('hour', updated_at AT TIME ZONE 'Asia/Ho_Chi_Minh') AS hour, count(*) AS conversations
    FROM shop.conversations WHERE updated_at > now() - interval '1 day' GROUP BY 1;
\echo
SELECT * FROM busy_hours ORDER BY conversations DESC LIMIT 5;
REFRESH MATERIALIZED VIEW busy_hours;

\set ECHO none
\echo
\echo '━━━ 9. A copy of two pages that is kept: synced, and at once up to date by an event of a webhook.'
\echo
\set ECHO queries
\if :{?second_page_id}
CREATE SERVER shop2 FOREIGN DATA WRAPPER pancake_fdw OPTIONS (page_id :'second_page_id', base_url :'base_url');
\set ECHO none
\set token `printf %s "$PANCAKE_SECOND_PAGE_ACCESS_TOKEN"`
\echo 'CREATE USER MAPPING FOR CURRENT_USER SERVER shop2 OPTIONS (page_access_token ''…'');'
CREATE USER MAPPING FOR CURRENT_USER SERVER shop2 OPTIONS (page_access_token :'token');
\unset token
\set ECHO queries
CREATE SCHEMA shop2;
IMPORT FOREIGN SCHEMA pancake LIMIT TO (conversations) FROM SERVER shop2 INTO shop2;
CREATE TABLE pages (LIKE shop.conversations) PARTITION BY LIST (page_id);
ALTER TABLE pages ATTACH PARTITION shop.conversations FOR VALUES IN (:'page_id');
ALTER TABLE pages ATTACH PARTITION shop2.conversations FOR VALUES IN (:'second_page_id');
SET client_min_messages = notice;
CALL pancake.sync('pages', 'kept', first_since => now() - interval '1 day');
SET client_min_messages = warning;
\else
CALL pancake.sync('shop.conversations', 'kept', first_since => now() - interval '1 day');
\endif
\echo
SELECT page_id, kind, status, seen, inserted, requests FROM pancake.sync_runs;
SELECT pancake.ingest(jsonb_build_object('page_id', page_id, 'event_type', 'messaging', 'data', jsonb_build_object(
           'conversation', jsonb_build_object('id', id, 'snippet', 'Còn hàng không ạ?'),
           'message', jsonb_build_object('id', 'm_1', 'inserted_at', now()))), 'kept')
FROM kept ORDER BY updated_at LIMIT 1;
\echo
SELECT customer_name, snippet, updated_at FROM kept ORDER BY updated_at DESC LIMIT 2;

\set ECHO none
\timing off
\echo
\echo '━━━ 10. All that was asked of the page, by all sessions of this cluster.'
\echo
\set ECHO queries
\x on
SELECT page_id, requests, rows, bytes, retries, throttled, errors, limit_wait_ms, rate FROM pancake.request_stats;
\x off
\set ECHO none
\echo
\echo 'That was the tour. `make psql` leaves you at a prompt in such a shop.'
