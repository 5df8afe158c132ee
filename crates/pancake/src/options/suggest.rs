//! This module finds the name that a mistyped one probably means. Which names are valid is the
//! caller's matter.

/// The candidate that a mistyped name most probably means, if one is near enough, or the first one
/// that has the name among its words.
pub fn closest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let near = candidates.iter().map(|c| (strsim::jaro_winkler(&name, c), *c));
    let near = near.filter(|(similarity, _)| *similarity > 0.75).max_by(|a, b| a.0.total_cmp(&b.0));
    let has_word = |candidate: &&&str| candidate.split('_').any(|word| word == name);
    near.map(|(_, candidate)| candidate).or_else(|| candidates.iter().find(has_word).copied())
}
