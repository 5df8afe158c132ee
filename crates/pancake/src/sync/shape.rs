//! This module decides how the columns of a source fit those of a target: what the statements of a
//! sync are made of.

use crate::error::{Error, Kind, Result};
use crate::sync::sql::{identifier, identifiers, literal, shown};
use crate::sync::walk::Walk;

/// What a column of a table is to a sync.
#[derive(Clone, Debug, Default)]
pub struct Column {
    pub name: String,
    /// Its type as SQL names it wherever it stands.
    pub type_name: String,
    pub kind: ColumnKind,
    /// It is GENERATED ALWAYS: nothing can be written to it.
    pub is_generated: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    Json,
    /// `timestamp with time zone`.
    Time,
    /// A `timestamp`.
    LocalTime,
    /// Another type whose values are times without a zone, a domain of `timestamp` for example.
    OtherTime,
    #[default]
    Other,
}

/// A table of the source or the target.
#[derive(Clone, Debug, Default)]
pub struct TableInfo {
    /// As SQL names it wherever it stands.
    pub name: String,
    pub is_table: bool,
    pub is_partitioned: bool,
    pub columns: Vec<Column>,
    /// The columns of its unique keys, each in the order of their names.
    pub keys: Vec<Vec<String>>,
}

impl TableInfo {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn has(&self, name: &str) -> bool {
        self.column(name).is_some()
    }
}

/// How source and target fit.
#[derive(Clone, Debug)]
pub struct Shape {
    pub source: String,
    pub target: String,
    /// The table of the list that is walked: of threads that of the conversations, else the source.
    pub list: String,
    pub walk: Walk,
    /// The values of a row of the source; NULL for those that are not wanted.
    pub source_row: String,
    pub columns: String,
    /// The values of `columns`, of a row `s` of the source.
    pub cells: String,
    /// The same as the target holds them, with their names.
    pub compared: String,
    pub key: String,
    /// By that key, rows of one id on two pages are one row.
    pub is_keyed_by_id: bool,
    pub assignments: String,
    /// Whether the stored row `t` differs from the one that was read.
    pub differs: String,
    pub has_page: bool,
    pub has_inserted: bool,
    pub has_synced: bool,
    pub has_removed: bool,
}

/// The columns that sync itself writes.
const OWN: [&str; 3] = ["page_id", "synced_at", "removed_at"];

impl Shape {
    pub fn fit(
        source: &TableInfo,
        target: &TableInfo,
        list: Option<&TableInfo>,
        walk: Walk,
    ) -> Result<Shape> {
        if !target.is_table {
            return Err(Error::new(Kind::WrongObject, format!("{} is not a table", target.name))
                .hint("The target of a sync is an ordinary or a partitioned table."));
        }
        check_columns(source, target, list, walk)?;
        check_zones(source, target)?;
        let key = key(target)?;
        let copied = |column: &&Column| {
            source.has(&column.name) && !column.is_generated && !OWN.contains(&column.name.as_str())
        };
        let copied: Vec<&Column> = target.columns.iter().filter(copied).collect();
        let cell = |column: &Column| cell(source, column);
        let compared = |column: &Column| {
            format!("{}::{} AS {}", cell(column), column.type_name, identifier(&column.name))
        };
        let others: Vec<&Column> = copied.iter().copied().filter(|column| column.name != "id").collect();
        let each = |columns: &[&Column], of: &dyn Fn(&Column) -> String| {
            columns.iter().map(|column| of(column)).collect::<Vec<_>>().join(", ")
        };
        // Rows wait in the source's own type, so that nothing is converted but by the INSERT.
        let source_cell = |column: &Column| {
            let is_read = target.has(&column.name)
                || ["id", "inserted_at", "updated_at"].contains(&column.name.as_str());
            if is_read { format!("s.{}", identifier(&column.name)) } else { "NULL".to_owned() }
        };
        Ok(Shape {
            source: source.name.clone(),
            target: target.name.clone(),
            list: list.unwrap_or(source).name.clone(),
            walk,
            source_row: each(&source.columns.iter().collect::<Vec<_>>(), &source_cell),
            columns: each(&copied, &|column| identifier(&column.name)),
            cells: each(&copied, &cell),
            compared: each(&copied, &compared),
            is_keyed_by_id: key.len() == 1,
            key: identifiers(key.iter().rev()),
            assignments: each(&others, &|column| {
                let name = identifier(&column.name);
                format!("{name} = EXCLUDED.{name}")
            }),
            // By their images, for which no type needs an operator.
            differs: format!(
                "pg_catalog.record_image_ne(ROW({}), ROW({}))",
                each(&others, &|column| format!("t.{}", identifier(&column.name))),
                each(&others, &|column| format!("EXCLUDED.{}", identifier(&column.name))),
            ),
            has_page: target.has("page_id"),
            has_inserted: target.has("inserted_at"),
            has_synced: target.has("synced_at"),
            has_removed: target.has("removed_at"),
        })
    }
}

impl Shape {
    /// Returns the condition that a row `t` of the target is of the page.
    pub fn of_page(&self, page_id: &str) -> String {
        if self.has_page {
            format!(" AND t.page_id OPERATOR(pg_catalog.=) {}", literal(page_id))
        } else {
            String::new()
        }
    }
}

/// Returns the value for a column of the target, of a row `s` of the source.
fn cell(source: &TableInfo, column: &Column) -> String {
    let is_json = |column: &Column| column.kind == ColumnKind::Json;
    let name = identifier(&column.name);
    let is_converted = is_json(column) && !source.column(&column.name).is_some_and(is_json);
    if is_converted { format!("pg_catalog.to_jsonb(s.{name})") } else { format!("s.{name}") }
}

fn check_columns(source: &TableInfo, target: &TableInfo, list: Option<&TableInfo>, walk: Walk) -> Result<()> {
    use ColumnKind::{LocalTime, Text, Time};
    let walked = list.unwrap_or(source);
    let needed: [(&TableInfo, Option<&str>, &[ColumnKind]); 9] = [
        (source, Some("id"), &[Text]),
        (source, walk.thread, &[Text]),
        (source, walk.dated, &[Time]),
        (walked, Some("id"), &[Text]),
        (walked, walk.begun, &[Time]),
        (walked, walk.changed, &[Time]),
        (target, Some("id"), &[Text]),
        (target, walk.thread, &[Text]),
        (target, walk.dated, &[Time, LocalTime]),
    ];
    for (table, column, kinds) in needed {
        let Some(column) = column else { continue };
        if table.column(column).is_some_and(|found| kinds.contains(&found.kind)) {
            continue;
        }
        let of_list = match (list, walk.begun, walk.changed) {
            (Some(list), Some(begun), Some(changed)) => {
                format!(", {} also {begun} and {changed}", list.name)
            }
            (None, Some(begun), _) if walk.begun != walk.dated => format!(", the source also {begun}"),
            _ => String::new(),
        };
        let thread = walk.thread.map(|thread| format!(", {thread} (text)")).unwrap_or_default();
        let dated = walk.dated.map(|dated| format!(" and {dated} (timestamp with time zone){of_list}"));
        return Err(Error::new(
            Kind::NoSuchColumn,
            format!("{} has no column {} that a sync can use", table.name, shown(column)),
        )
        .hint(format!("Source and target need id (text){thread}{}.", dated.unwrap_or_default())));
    }
    Ok(())
}

/// A time that loses its zone is another time.
fn check_zones(source: &TableInfo, target: &TableInfo) -> Result<()> {
    use ColumnKind::{LocalTime, OtherTime, Time};
    let is_time = |column: &Column| {
        OWN[1..].contains(&column.name.as_str())
            || source.column(&column.name).is_some_and(|column| column.kind == Time)
    };
    let lossy = target.columns.iter().find(|column| {
        !column.is_generated && matches!(column.kind, LocalTime | OtherTime) && is_time(column)
    });
    let Some(column) = lossy else { return Ok(()) };
    let (table, name) = (&target.name, shown(&column.name));
    Err(Error::new(
        Kind::BadColumnType,
        format!("column {name} of {table} is of type {}, which would lose the time zone", column.type_name),
    )
    .hint(format!(
        "ALTER TABLE {table} ALTER COLUMN {name} TYPE timestamptz USING {name} AT TIME ZONE 'UTC';"
    )))
}

/// Returns the key by which rows are written.
fn key(target: &TableInfo) -> Result<&[String]> {
    let usable = |key: &&Vec<String>| *key == &["id", "page_id"] || *key == &["id"];
    let key = target.keys.iter().filter(usable).max_by_key(|key| key.len());
    key.map(Vec::as_slice).ok_or_else(|| {
        let name = &target.name;
        Error::new(Kind::NoUniqueKey, format!("table {name} has no unique key on (page_id, id) or (id)")).hint(
            if target.is_partitioned {
                "A unique key of a partitioned table holds what it is partitioned by: partition it by page_id or id."
                    .to_owned()
            } else {
                format!("CREATE UNIQUE INDEX ON {name} (page_id, id);")
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::catalogue::Object;

    fn table(name: &str, columns: &[(&str, ColumnKind)]) -> TableInfo {
        let column = |(name, kind): &(&str, ColumnKind)| Column {
            name: (*name).to_owned(),
            type_name: "t".to_owned(),
            kind: *kind,
            is_generated: false,
        };
        TableInfo {
            name: name.to_owned(),
            is_table: true,
            columns: columns.iter().map(column).collect(),
            keys: vec![vec!["id".to_owned()], vec!["id".to_owned(), "page_id".to_owned()]],
            ..TableInfo::default()
        }
    }

    const SOURCE: &[(&str, ColumnKind)] = &[
        ("page_id", ColumnKind::Text),
        ("id", ColumnKind::Text),
        ("tags", ColumnKind::Other),
        ("unread", ColumnKind::Other),
        ("inserted_at", ColumnKind::Time),
        ("updated_at", ColumnKind::Time),
    ];

    fn fit(target: &TableInfo) -> Result<Shape> {
        let walk = Walk::of(Object::Conversations).unwrap();
        Shape::fit(&table("shop.c", SOURCE), target, None, walk)
    }

    #[test]
    fn columns_that_both_have_are_copied() {
        let mut target = table(
            "crm.c",
            &[
                ("page_id", ColumnKind::Text),
                ("id", ColumnKind::Text),
                ("tags", ColumnKind::Json),
                ("owner", ColumnKind::Text),
                ("inserted_at", ColumnKind::Time),
                ("updated_at", ColumnKind::LocalTime),
            ],
        );
        target.columns[4].is_generated = true;
        let error = fit(&target).unwrap_err();
        assert_eq!((error.kind(), error.message().contains("updated_at")), (Kind::BadColumnType, true));
        target.columns[5].kind = ColumnKind::Time;
        let shape = fit(&target).unwrap();
        assert_eq!(shape.columns, r#""id", "tags", "updated_at""#);
        assert_eq!(shape.cells, r#"s."id", pg_catalog.to_jsonb(s."tags"), s."updated_at""#);
        assert_eq!(shape.key, r#""page_id", "id""#);
        assert_eq!(
            shape.source_row,
            r#"s."page_id", s."id", s."tags", NULL, s."inserted_at", s."updated_at""#
        );
        assert!(shape.has_page && shape.has_inserted && !shape.has_synced && !shape.is_keyed_by_id);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut target = table("crm.c", &SOURCE[..5]);
        let error = fit(&target).unwrap_err();
        assert_eq!(error.kind(), Kind::NoSuchColumn);
        assert_eq!(
            error.hint_text().unwrap(),
            "Source and target need id (text) and updated_at (timestamp with time zone), the source also inserted_at."
        );
        target = table("crm.c", SOURCE);
        target.keys.truncate(1);
        assert!(fit(&target).unwrap().is_keyed_by_id);
        target.keys = vec![vec!["id".to_owned(), "type".to_owned()]];
        assert_eq!(fit(&target).unwrap_err().kind(), Kind::NoUniqueKey);
        target.is_table = false;
        assert_eq!(fit(&target).unwrap_err().kind(), Kind::WrongObject);
    }
}
