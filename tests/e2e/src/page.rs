//! Knows the statements that make a page a schema: server, user mapping, import.
//! Which page it is, and who serves it, is left to the callers.

use anyhow::Result;

use crate::sql::Session;

/// A page, and where it is asked for.
#[derive(Clone)]
pub struct Address {
    /// `None`: the extension's own default, the real Pancake.
    pub base_url: Option<String>,
    pub page_id: String,
    pub token: String,
}

impl Address {
    /// Creates a server of this name, maps the current user, and imports all tables into a schema
    /// of the same name.
    pub fn import(&self, session: &mut Session, name: &str, options: &[(&str, &str)]) -> Result<()> {
        let mut all = vec![("page_id", self.page_id.as_str())];
        all.extend(self.base_url.as_deref().map(|url| ("base_url", url)));
        all.extend(options);
        let all: Vec<String> = all.iter().map(|(name, value)| format!("{name} {}", literal(value))).collect();
        let all = all.join(", ");
        session.execute(&format!("CREATE SERVER {name} FOREIGN DATA WRAPPER pancake_fdw OPTIONS ({all})"))?;
        session.execute(&format!(
            "CREATE USER MAPPING FOR CURRENT_USER SERVER {name} OPTIONS (page_access_token {})",
            literal(&self.token)
        ))?;
        session.execute(&format!("CREATE SCHEMA {name}"))?;
        session.execute(&format!("IMPORT FOREIGN SCHEMA pancake FROM SERVER {name} INTO {name}"))
    }
}

/// A string constant, whatever is in it.
pub fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
