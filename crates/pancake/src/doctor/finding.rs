//! This module defines one line of the doctor, and builds the statement that stops a filter from
//! being sent.

use crate::error::{Error, Kind};
use crate::options::pushdown::PushdownOption;
use crate::plan::filter::Filterable;
use crate::secret::Secret;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Ok,
    /// It works, at a higher price or with a limit; or it could not be tried.
    Warn,
    Fail,
}

impl Status {
    pub fn text(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub item: &'static str,
    pub status: Status,
    pub detail: String,
    pub hint: Option<String>,
    /// Columns whose clauses had better not be sent.
    pub distrust: Vec<Filterable>,
}

impl Finding {
    pub fn new(item: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { item, status, detail: detail.into(), hint: None, distrust: Vec::new() }
    }

    pub fn ok(item: &'static str, detail: impl Into<String>) -> Self {
        Self::new(item, Status::Ok, detail)
    }

    pub fn warn(item: &'static str, detail: impl Into<String>) -> Self {
        Self::new(item, Status::Warn, detail)
    }

    pub fn fail(item: &'static str, detail: impl Into<String>) -> Self {
        Self::new(item, Status::Fail, detail)
    }

    /// There is nothing on the page to try it with.
    pub fn untried(item: &'static str, why: &str) -> Self {
        Self::warn(item, format!("could not be tried: {why}"))
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub fn distrust(self, columns: &[Filterable]) -> Self {
        Self { distrust: columns.to_vec(), ..self }
    }

    pub fn also(self, sentence: impl AsRef<str>) -> Self {
        Self { detail: format!("{}; {}", self.detail, sentence.as_ref()), ..self }
    }

    /// An error as a line: under the item that it speaks of, else under the one that was tried.
    pub fn of_error(error: &Error, tried: &'static str) -> Self {
        let item = match error.kind() {
            Kind::NoToken | Kind::TokenRefused | Kind::NotPermitted => "token",
            Kind::PageNotFound => "page",
            Kind::PageRefused => "API",
            Kind::Unreachable | Kind::NoSharedMemory => "server",
            _ => tried,
        };
        let why = error.detail_text().map(|why| format!(": {why}")).unwrap_or_default();
        let detail = format!("{}{why}", error.message());
        Self { hint: error.hint_text().map(str::to_owned), ..Self::fail(item, detail) }
    }

    /// The same without a token that a reply may have echoed.
    pub fn without(self, secret: &Secret) -> Self {
        Self { detail: secret.scrub(&self.detail).into_owned(), ..self }
    }
}

/// Names, beside every finding that distrusts a filter, the one statement that keeps all distrusted
/// ones back.
pub fn prescribe(findings: &mut [Finding], server: &str, pushdown: &PushdownOption, is_set: bool) {
    let mut distrusted: Vec<Filterable> =
        findings.iter().flat_map(|finding| finding.distrust.clone()).collect();
    // A list that names post_id trusts it without proof, so it is proposed only if the list names
    // it already.
    if !pushdown.trusts(Filterable::PostId) {
        distrusted.push(Filterable::PostId);
    }
    let kept = pushdown.without(&distrusted);
    let verb = if is_set { "SET" } else { "ADD" };
    let statement = format!("ALTER SERVER {server} OPTIONS ({verb} pushdown '{kept}');");
    for finding in findings.iter_mut().filter(|finding| !finding.distrust.is_empty()) {
        let before = finding.hint.take().map(|hint| format!("{hint} ")).unwrap_or_default();
        finding.hint = Some(format!("{before}Keep it back: {statement}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prescribed(pushdown: &str, is_set: bool, distrust: &[Filterable]) -> Option<String> {
        let mut findings = [Finding::ok("token", "t"), Finding::fail("tags", "d").distrust(distrust)];
        prescribe(&mut findings, "shop", &PushdownOption::parse(pushdown).unwrap(), is_set);
        assert_eq!(findings[0].hint, None);
        findings[1].hint.clone()
    }

    #[test]
    fn what_is_distrusted_is_left_out_and_post_id_is_never_newly_trusted() {
        let hint = |pushdown, is_set, distrust| prescribed(pushdown, is_set, distrust).unwrap();
        assert_eq!(
            hint("all", false, &[Filterable::Tags]),
            "Keep it back: ALTER SERVER shop OPTIONS (ADD pushdown 'type,updated_at,inserted_at');"
        );
        assert!(hint("tags,post_id", true, &[Filterable::Tags]).contains("(SET pushdown 'post_id')"));
        assert!(hint("tags", true, &[Filterable::Tags]).contains("(SET pushdown 'none')"));
        assert_eq!(prescribed("all", false, &[]), None);
    }
}
