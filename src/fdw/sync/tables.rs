//! This module reads what a sync needs from the catalogs: the pages of a source, and the columns of
//! its tables. How they fit is decided in `pancake::sync::shape`.

use pancake::error::{Error, Kind, Result};
use pancake::schema::catalogue::Object;
use pancake::sync::shape::{Column, ColumnKind, Shape, TableInfo};
use pancake::sync::sql::{identifier, literal};
use pancake::sync::walk::Walk;
use pgrx::pg_sys;

use crate::fdw::sync::page::Page;
use crate::pg::catalog::table_name;
use crate::pg::spi::{all_prepared as all, first};

/// A page of a source: a foreign table of ours.
#[derive(Clone)]
pub struct SourcePage {
    pub source: pg_sys::Oid,
    pub page_id: String,
    pub object: Object,
    pub walk: Walk,
    /// Of threads: the table of conversations.
    pub list: Option<pg_sys::Oid>,
}

const PAGES: &str = "
    SELECT l.relation::oid, coalesce(w.fdwname = 'pancake_fdw', false),
        (SELECT o.option_value FROM pg_options_to_table(t.ftoptions) o WHERE o.option_name = 'object'),
        coalesce((SELECT o.option_value FROM pg_options_to_table(t.ftoptions) o WHERE o.option_name = 'page_id'),
                 (SELECT o.option_value FROM pg_options_to_table(s.srvoptions) o WHERE o.option_name = 'page_id')) AS page_id
    FROM (SELECT $1 AS relation WHERE (SELECT c.relkind FROM pg_class c WHERE c.oid = $1) <> 'p'
          UNION ALL
          SELECT p.relid FROM pg_partition_tree($1) p WHERE p.isleaf AND p.relid <> $1) l
    JOIN pg_class c ON c.oid = l.relation
    LEFT JOIN pg_foreign_table t ON t.ftrelid = c.oid
    LEFT JOIN pg_foreign_server s ON s.oid = t.ftserver
    LEFT JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
    ORDER BY page_id";

/// Returns one page for a foreign table of ours, or all of a table that is partitioned into such.
pub fn pages(source: pg_sys::Oid) -> Result<Vec<SourcePage>> {
    let wrong = |message: String, hint: &str| Err(Error::new(Kind::WrongObject, message).hint(hint));
    let hint = "The source is a foreign table of a pancake_fdw server, or a table partitioned by page_id \
                whose partitions are such foreign tables.";
    let leaves = all(PAGES, &[source.into()], |row| {
        let relation = row.get::<pg_sys::Oid>(1)?.unwrap_or(pg_sys::InvalidOid);
        let text = |column| row.get::<String>(column).map(Option::unwrap_or_default);
        Ok((relation, row.get::<bool>(2)? == Some(true), text(3)?, text(4)?))
    });
    let mut pages: Vec<SourcePage> = Vec::new();
    for (relation, is_ours, object_name, page_id) in leaves {
        let name = table_name(relation);
        if !is_ours {
            return wrong(format!("{name} is not a foreign table of pancake_fdw"), hint);
        }
        let object = Object::by_name(&object_name);
        let Some((object, walk)) = object.and_then(|object| Some((object, Walk::of(object)?))) else {
            return Err(Error::new(
                Kind::NotSupported,
                format!("{name} holds {object_name}, which sync does not copy"),
            )
            .hint("A sync belongs to a page. A list without one is copied by CREATE TABLE … AS SELECT."));
        };
        if let Some(before) = pages.last() {
            let other = table_name(before.source);
            if before.object != object {
                let objects = (before.object.name(), object.name());
                return wrong(format!("{other} holds {}, {name} holds {}", objects.0, objects.1), hint);
            }
            if before.page_id == page_id {
                return wrong(
                    format!("{other} and {name} are both of page {page_id}"),
                    "Marks belong to a page: each page may be in one partition only.",
                );
            }
        }
        let list = if walk.is_threads() { Some(list(relation, &page_id)?) } else { None };
        pages.push(SourcePage { source: relation, page_id, object, walk, list });
    }
    if pages.is_empty() {
        return wrong(format!("{} has no pages", table_name(source)), hint);
    }
    Ok(pages)
}

/// Of the same server and page, rather in the same schema.
const LIST: &str = "
    WITH own AS (
        SELECT s.oid, s.srvname, s.srvoptions, c.relnamespace, n.nspname,
            (SELECT o.option_value FROM pg_options_to_table(t.ftoptions) o WHERE o.option_name = 'page_id') AS page_id
        FROM pg_foreign_table t JOIN pg_foreign_server s ON s.oid = t.ftserver
        JOIN pg_class c ON c.oid = t.ftrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE t.ftrelid = $1)
    SELECT (SELECT t.ftrelid
            FROM pg_foreign_table t JOIN pg_class c ON c.oid = t.ftrelid,
                LATERAL (SELECT max(o.option_value) FILTER (WHERE o.option_name = 'object') AS object,
                             max(o.option_value) FILTER (WHERE o.option_name = 'page_id') AS page_id
                         FROM pg_options_to_table(t.ftoptions) o) o
            WHERE t.ftserver = own.oid AND o.object = 'conversations'
              AND coalesce(o.page_id, (SELECT s.option_value FROM pg_options_to_table(own.srvoptions) s
                                       WHERE s.option_name = 'page_id')) = $2
            ORDER BY c.relnamespace = own.relnamespace DESC, t.ftrelid LIMIT 1),
        own.srvname::text, own.nspname::text, own.page_id
    FROM own";

/// Returns the table of conversations that belongs to a table of messages.
fn list(source: pg_sys::Oid, page_id: &str) -> Result<pg_sys::Oid> {
    let found = first(LIST, &[source.into(), page_id.into()], |row| {
        let names = [row.get::<String>(2)?, row.get::<String>(3)?, row.get::<String>(4)?];
        Ok((row.get::<pg_sys::Oid>(1)?, names))
    });
    let (list, [server, schema, own_page]) = found.unwrap_or_default();
    list.ok_or_else(|| {
        let options =
            own_page.map(|page| format!(" OPTIONS (page_id {})", literal(&page))).unwrap_or_default();
        let [server, schema] = [server, schema].map(|name| {
            pancake::sync::sql::shown(&name.unwrap_or_default())
        });
        Error::new(
            Kind::NoSuchTable,
            format!(
                "there is no table of the conversations of page {page_id}, whose messages {} holds",
                table_name(source)
            ),
        )
        .hint(format!(
            "IMPORT FOREIGN SCHEMA pancake LIMIT TO (conversations) FROM SERVER {server} INTO {schema}{options};"
        ))
    })
}

const COLUMNS: &str = "
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.atttypid IN ('text'::regtype, 'varchar'::regtype) THEN 'text'
             WHEN a.atttypid = 'jsonb'::regtype THEN 'json'
             WHEN a.atttypid = 'timestamptz'::regtype THEN 'time'
             WHEN a.atttypid = 'timestamp'::regtype THEN 'local'
             -- A domain puts its values out as its type does.
             WHEN t.typoutput = ANY ('{timestamp_out,date_out,time_out,timetz_out}'::regproc[]) THEN 'other'
             ELSE '' END,
        a.attgenerated <> '' OR a.attidentity = 'a'
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const KEYS: &str = "
    SELECT k.names
    FROM pg_index i CROSS JOIN LATERAL (
        SELECT array_agg(a.attname::text ORDER BY a.attname) AS names
        FROM generate_series(0, i.indnkeyatts - 1) p
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p]) k
    WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL";

fn table_info(relation: pg_sys::Oid) -> TableInfo {
    // SAFETY: a look-up in the caches.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    let is_partitioned = kind == pg_sys::RELKIND_PARTITIONED_TABLE;
    TableInfo {
        name: table_name(relation),
        is_table: is_partitioned || kind == pg_sys::RELKIND_RELATION,
        is_partitioned,
        columns: all(COLUMNS, &[relation.into()], |row| {
            let text = |column| row.get::<String>(column).map(Option::unwrap_or_default);
            Ok(Column {
                name: text(1)?,
                type_name: text(2)?,
                kind: match text(3)?.as_str() {
                    "text" => ColumnKind::Text,
                    "json" => ColumnKind::Json,
                    "time" => ColumnKind::Time,
                    "local" => ColumnKind::LocalTime,
                    "other" => ColumnKind::OtherTime,
                    _ => ColumnKind::Other,
                },
                is_generated: row.get::<bool>(4)? == Some(true),
            })
        }),
        keys: all(KEYS, &[relation.into()], |row| row.get::<Vec<String>>(1).map(Option::unwrap_or_default)),
    }
}

/// Returns how the columns of a page's source fit those of its target.
pub fn shape(page: &Page) -> Result<Shape> {
    let list = page.list.map(table_info);
    Shape::fit(&table_info(page.source), &table_info(page.target), list.as_ref(), page.walk)
}

const DECLARATIONS: &str = "
    SELECT concat(quote_ident(a.attname), ' ', format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attcollation <> t.typcollation
            THEN (SELECT format(' COLLATE %I.%I', n.nspname, c.collname)
                  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) END,
        CASE WHEN a.attnotnull THEN ' NOT NULL' END), a.attname::text
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname NOT IN ('page_id', 'synced_at', 'removed_at')
    ORDER BY a.attnum";

/// Returns the statements that make a target in the image of the source.
pub fn definition(page: &SourcePage, target: &str, schema: Option<String>) -> Result<Vec<String>> {
    let parts = "SELECT parse_ident($1)";
    let parts = first(parts, &[target.into()], |row| row.get_one::<Vec<String>>()).flatten();
    let name = match (parts.as_deref(), schema) {
        (Some([name]), Some(schema)) => format!("{}.{}", identifier(&schema), identifier(name)),
        (Some([schema, name]), _) => format!("{}.{}", identifier(schema), identifier(name)),
        _ => {
            return Err(Error::new(Kind::BadName, format!("cannot create a table {}", literal(target)))
                .hint("Name the target with its schema, such as 'crm.conversations'."));
        }
    };
    let columns = all(DECLARATIONS, &[page.source.into()], |row| {
        let text = |column| row.get::<String>(column).map(Option::unwrap_or_default);
        Ok((text(1)?, text(2)?))
    });
    let declared: String = columns.iter().map(|(declaration, _)| format!("{declaration}, ")).collect();
    let mut statements = vec![format!(
        "CREATE TABLE {name} (page_id text NOT NULL, {declared}synced_at timestamp with time zone NOT NULL, \
         removed_at timestamp with time zone, PRIMARY KEY (page_id, id))"
    )];
    let indexed: String = [page.walk.thread, page.walk.dated]
        .into_iter()
        .flatten()
        .filter(|column| columns.iter().any(|(_, name)| name == column))
        .map(|column| format!(", {column}"))
        .collect();
    if !indexed.is_empty() {
        statements.push(format!("CREATE INDEX ON {name} (page_id{indexed})"));
    }
    Ok(statements)
}
