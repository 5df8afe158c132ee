//! This module is the option `pushdown`: which columns' clauses a server or table lets out.

use crate::options::suggest::closest;
use crate::plan::filter::Filterable;

/// The option `pushdown`: the columns whose clauses may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushdownOption {
    columns: Vec<&'static str>,
    /// The columns were named one by one: what they promise is believed without proof.
    named: bool,
}

const COLUMNS: [&str; 5] = ["type", "tags", "post_id", "updated_at", "inserted_at"];

impl PushdownOption {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "all" => return Ok(Self { columns: COLUMNS.to_vec(), named: false }),
            "none" => return Ok(Self { columns: Vec::new(), named: false }),
            _ => {}
        }
        let known = |name: &str| {
            COLUMNS.into_iter().find(|column| *column == name.trim()).ok_or_else(|| {
                let closest = closest(name, &COLUMNS);
                let perhaps = closest.map(|c| format!(" (perhaps \"{c}\" is meant)")).unwrap_or_default();
                format!("\"{}\" is none of all, none, {}{perhaps}", name.trim(), COLUMNS.join(", "))
            })
        };
        text.split(',').map(known).collect::<Result<_, _>>().map(|columns| Self { columns, named: true })
    }

    pub fn allows(&self, column: Filterable) -> bool {
        let always = [Filterable::PageId, Filterable::Id, Filterable::ConversationId];
        always.contains(&column) || self.columns.contains(&column.column())
    }

    /// The option's value with these columns left out.
    pub fn without(&self, columns: &[Filterable]) -> String {
        let kept: Vec<_> = self
            .columns
            .iter()
            .filter(|name| columns.iter().all(|c| c.column() != **name))
            .copied()
            .collect();
        if kept.is_empty() { "none".to_owned() } else { kept.join(",") }
    }

    /// Whether the server's filter on this column is believed without proof.
    pub fn trusts(&self, column: Filterable) -> bool {
        self.named && self.allows(column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushdown_is_all_none_or_a_list() {
        assert!(PushdownOption::parse("all").unwrap().allows(Filterable::Type));
        assert!(!PushdownOption::parse("none").unwrap().allows(Filterable::Type));
        let list = PushdownOption::parse("type, updated_at").unwrap();
        assert!(list.allows(Filterable::UpdatedAt) && !list.allows(Filterable::Tags));
        assert!(PushdownOption::parse("tag").unwrap_err().contains("perhaps \"tags\""));
        assert!(PushdownOption::parse("").is_err());
    }
}
