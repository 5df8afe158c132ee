//! This module finds the name that a mistyped one probably means. Which names are valid is the
//! caller's matter.

/// The candidate that a mistyped name most probably means, if one is near enough.
pub fn closest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let near = candidates.iter().map(|c| (strsim::jaro_winkler(&name.to_lowercase(), c), *c));
    near.filter(|(similarity, _)| *similarity > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}
