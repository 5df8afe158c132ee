//! Where a token comes from: the role's mapping or the one for PUBLIC, the option itself or a file
//! with many pages.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use e2e::{Session, Shop};
use pancake_simulator::{PageSettings, Settings};

use crate::errors::Told;

const COUNT: &str = "SELECT count(*) FROM shop.conversations";

/// A file that the server's account can read.
pub struct TokenFile(PathBuf);

impl TokenFile {
    pub fn new(shop: &Shop, name: &str, text: &str) -> TokenFile {
        let name = format!("{}_{name}", shop.database.name());
        let file = TokenFile(shop.database.cluster().socket_dir().join(name));
        file.write(text);
        file
    }

    pub fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
        std::fs::set_permissions(&self.0, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    pub fn path(&self) -> std::path::Display<'_> {
        self.0.display()
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn use_file(session: &mut Session, path: impl std::fmt::Display) {
    let options = format!("DROP page_access_token, ADD page_access_token_file '{path}'");
    session.execute(&format!("ALTER USER MAPPING FOR postgres SERVER shop OPTIONS ({options})")).unwrap();
}

#[test]
fn one_file_opens_many_pages_and_an_edit_of_it_acts_at_the_next_scan() {
    let page =
        |id: &str, token: &str, conversations| PageSettings { conversations, ..PageSettings::new(id, token) };
    let pages =
        vec![page("1", "SECRET-1", 10), page("zl_a:b@c", "SECRET-2", 20), page("web_x", "SECRET-3", 30)];
    let shop = Shop::open(Settings { pages, ..Settings::default() }).unwrap();
    let mut session = shop.connect().unwrap();
    let file = TokenFile::new(&shop, "many", &format!("\u{feff}# tokens\n\n{}", shop.simulator.token_file()));
    use_file(&mut session, file.path());
    session
        .execute(
            "CREATE FOREIGN TABLE second (id text, page_id text) SERVER shop OPTIONS (object 'conversations', page_id 'zl_a:b@c');
             CREATE SCHEMA third; IMPORT FOREIGN SCHEMA pancake FROM SERVER shop INTO third OPTIONS (page_id 'web_x');
             CREATE FOREIGN TABLE fourth (id text) SERVER shop OPTIONS (object 'conversations', page_id 'b@c')",
        )
        .unwrap();
    let counts = "SELECT (SELECT count(*) FROM shop.conversations), (SELECT count(*) FROM second),
                         (SELECT count(*) FROM third.conversations)";
    let text = |n: &str| Some(n.to_owned());
    assert_eq!(session.rows(counts).unwrap(), [[text("10"), text("20"), text("30")]]);
    assert_eq!(session.one("SELECT DISTINCT page_id FROM second").unwrap(), "zl_a:b@c");
    assert_eq!(session.one("SELECT DISTINCT page_id FROM third.conversations").unwrap(), "web_x");

    let (error, log) = shop.watch(|| session.error("SELECT id FROM fourth").unwrap());
    let told = Told {
        sqlstate: "28000",
        message: "no token for page \"b@c\" in the token file",
        detail: "3 lines",
        hint: "page_id:token",
    };
    told.check(&error, "no line");
    assert!(log.is_empty());

    // Rotation: the old token is refused, the edit heals it, in this session.
    shop.simulator.page("zl_a:b@c").set_token("SECRET-new");
    let error = session.error("SELECT count(*) FROM second").unwrap();
    assert_eq!(error.sqlstate, "28000");
    let hint = error.hint.unwrap();
    assert!(
        hint.contains("into the token file, as its line zl_a:b@c:token;") && !hint.contains("SECRET"),
        "{hint}"
    );
    file.write(&shop.simulator.token_file());
    assert_eq!(session.rows(counts).unwrap(), [[text("10"), text("20"), text("30")]]);
    // A scan that runs keeps the token that it began with.
    session
        .execute("BEGIN; DECLARE walk CURSOR FOR SELECT id FROM shop.conversations; FETCH 1 FROM walk")
        .unwrap();
    file.write("");
    assert_eq!(session.column("FETCH ALL FROM walk").unwrap().len(), 9);
    session.execute("COMMIT").unwrap();
    assert_eq!(session.error(COUNT).unwrap().sqlstate, "28000");
    shop.assert_no_violations().unwrap();
}

#[test]
fn a_bare_token_in_a_file_opens_the_page() {
    let shop = Shop::open(Settings::of(10)).unwrap();
    let mut session = shop.connect().unwrap();
    let token = shop.simulator.first_page().token();
    for text in [format!("{token}\n"), format!("  {token}\r\n"), token.clone(), format!("\u{feff}{token}\n")]
    {
        let file = TokenFile::new(&shop, "bare", &text);
        session.execute("BEGIN").unwrap();
        use_file(&mut session, file.path());
        assert_eq!(session.one(COUNT).unwrap(), "10", "{text:?}");
        session.execute("ROLLBACK").unwrap();
    }
    assert_eq!(session.one(COUNT).unwrap(), "10");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let shop = Shop::open(Settings::of(10)).unwrap();
    let mut session = shop.connect().unwrap();
    let home = shop.database.cluster().socket_dir().display().to_string();
    let binary = TokenFile::new(&shop, "binary", "");
    std::fs::write(&binary.0, b"\xff\xfeSECRET").unwrap();
    let closed = TokenFile::new(&shop, "closed", "SECRET");
    if nix::unistd::geteuid().is_root() {
        std::fs::set_permissions(&closed.0, std::fs::Permissions::from_mode(0o600)).unwrap();
    } else {
        std::fs::set_permissions(&closed.0, std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    for (path, reason) in [
        (format!("{home}/nowhere"), "No such file"),
        (home, "not a regular file"),
        (binary.path().to_string(), "UTF-8"),
        (closed.path().to_string(), "Permission denied"),
    ] {
        session.execute("BEGIN").unwrap();
        use_file(&mut session, &path);
        let error = session.error(COUNT).unwrap();
        let told = Told {
            sqlstate: "28000",
            message: "cannot read the page access token file",
            detail: reason,
            hint: "readable by the operating system user that runs Postgres",
        };
        told.check(&error, reason);
        assert!(error.detail.unwrap().contains(&path));
        session.execute("ROLLBACK").unwrap();
    }
}

#[test]
fn one_of_two_tokens_must_be_meant() {
    let shop = Shop::open(Settings::of(10)).unwrap();
    let mut session = shop.connect().unwrap();
    let both = "page_access_token 'SECRET', page_access_token_file '/x'";
    let error =
        session.error(&format!("CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS ({both})")).unwrap();
    let told = Told {
        sqlstate: "HV024",
        message: "options page_access_token and page_access_token_file exclude each other",
        detail: "",
        hint: "Keep the one of them that is meant.",
    };
    told.check(&error, "both");
}

#[test]
fn the_mapping_for_public_serves_whoever_has_none() {
    let shop = Shop::open(Settings::of(10)).unwrap();
    let mut session = shop.connect().unwrap();
    let role = super::rights::role(&shop, &mut session, "anyone");
    let token = shop.simulator.first_page().token();
    session
        .execute(&format!(
            "CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (page_access_token '{token}');
             ALTER USER MAPPING FOR postgres SERVER shop OPTIONS (SET page_access_token 'wrong');
             GRANT USAGE ON SCHEMA shop TO {role}; GRANT SELECT ON shop.conversations TO {role}"
        ))
        .unwrap();
    // One's own goes first, even if it is wrong.
    assert_eq!(session.error(COUNT).unwrap().sqlstate, "28000");
    assert_eq!(shop.database.connect_as(&role).unwrap().one(COUNT).unwrap(), "10");
    session.execute("DROP USER MAPPING FOR postgres SERVER shop").unwrap();
    assert_eq!(session.one(COUNT).unwrap(), "10");
}
