//! This module handles addresses: which base URLs are allowed, how they are compared, and how a
//! request's URL is built. What the parameters mean is decided by [`crate::plan::request`] and
//! [`crate::paging::cursor`].

use std::net::IpAddr;

use reqwest::Url;

use crate::percent::encoded;
use crate::secret::Secret;

/// Pancake's own API.
pub const DEFAULT_BASE_URL: &str = "https://pages.fm/api";

/// Whether a segment of a path would be a step within it, in whatever spelling, rather than a name.
pub fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// The root of the API, in the one form under which it is compared and metered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// `https` anywhere, `http` on a loopback address only. Normalised: lower-case host, no default
    /// port, no trailing slash.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = bare(text)?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => return Err("plain http is allowed to a loopback address only; use https".to_owned()),
            other => return Err(format!("its scheme must be https, not {other}")),
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// A proxy's address: `http` or `https`, anywhere.
    pub fn parse_proxy(text: &str) -> Result<Url, String> {
        let url = Url::parse(text.trim()).map_err(|error| format!("it is not a URL ({error})"))?;
        match url.scheme() {
            "http" | "https" if url.has_host() => Ok(url),
            _ => Err("it must be an http or https URL".to_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port, as a message names the API.
    pub fn authority(&self) -> &str {
        self.0.split('/').nth(2).unwrap_or_default()
    }

    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT_BASE_URL
    }
}

fn bare(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("it is not a URL ({error})"))?;
    if !url.has_host() {
        return Err("it names no host".to_owned());
    }
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err("it must hold neither query, fragment nor credentials".to_owned());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A URL without its secret: path segments and parameters, fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    path: String,
    query: String,
}

impl Address {
    pub fn new(version: &str) -> Self {
        Self { path: format!("/{version}"), query: String::new() }
    }

    pub fn segment(mut self, segment: &str) -> Self {
        self.path.push('/');
        self.path.push_str(&encoded(segment));
        self
    }

    pub fn param(mut self, name: &str, value: &str) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(name);
        self.query.push('=');
        self.query.push_str(&encoded(value));
        self
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    #[cfg(test)]
    pub fn without_token(&self) -> String {
        format!("{}?{}", self.path, self.query)
    }

    /// The whole URL, the token last. It must never be shown.
    pub(crate) fn with_token(&self, base: &BaseUrl, token_name: &str, token: &Secret) -> String {
        let separator = if self.query.is_empty() { "" } else { "&" };
        let token = encoded(token.reveal());
        format!("{}{}?{}{separator}{token_name}={token}", base.0, self.path, self.query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_addresses_are_equal_keys() {
        let plain = BaseUrl::parse("https://pages.fm/api");
        for same in ["https://PAGES.fm/api/", " https://pages.fm:443/api"] {
            assert_eq!(BaseUrl::parse(same), plain, "{same}");
        }
        assert!(plain.unwrap().is_default());
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for fine in ["http://127.0.0.1:8080/api", "http://localhost/api", "http://[::1]:1/api"] {
            assert!(BaseUrl::parse(fine).is_ok(), "{fine}");
        }
        for bad in [
            "http://pages.fm/api",
            "http://127.0.0.1.evil.com/",
            "ftp://127.0.0.1/",
            "https://u:p@h/",
            "https://h/?a=1",
            "pages.fm",
            "https://",
        ] {
            assert!(BaseUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn segments_and_values_are_encoded_and_the_token_is_last() {
        let address = Address::new("public_api/v2")
            .segment("pages")
            .segment("a:b@c/d")
            .param("tags", "61,62")
            .param("type", "INBOX");
        let url = address.with_token(
            &BaseUrl::parse("https://h/api").unwrap(),
            "page_access_token",
            &Secret::new("t&k"),
        );
        assert_eq!(
            url,
            "https://h/api/public_api/v2/pages/a%3Ab%40c%2Fd?tags=61%2C62&type=INBOX&page_access_token=t%26k"
        );
    }
}
