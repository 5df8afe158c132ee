//! This module compares the documents with the code: tables of options, columns and errors, SQL
//! that runs, quotations that are real. Whether the sentences are true beyond that is left to the
//! tests of each promise.

use std::collections::BTreeSet;
use std::fs;

use e2e::{Cluster, Shop, Tree, page::literal, tree};
use pancake::error::Kind;
use pancake::options::table::{OPTIONS, Permission, Place};
use pancake::plan::filter::{Comparison, Filterable};
use pancake::plan::pushdown::Pushdown;
use pancake::schema::catalogue::Object;
use pancake_simulator::{PageSettings, Settings};

use super::doctor::polite;
use super::errors::replies;
use super::words;

pub(super) fn document(name: &str) -> String {
    fs::read_to_string(tree::repository().join(name)).unwrap()
}

/// The rows of the Markdown table with this header.
pub(super) fn table(document: &str, header: &str) -> Vec<Vec<String>> {
    let cells =
        |line: &str| line.trim_matches(['|', ' ']).split('|').map(|cell| cell.trim().to_owned()).collect();
    let mut lines = document.lines().skip_while(|line| *line != header);
    assert!(lines.next().is_some(), "no table with the header {header}");
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// What stands between backticks.
pub(super) fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Fenced blocks: the line of the first one's text, the word behind the fence, the text.
pub(super) fn blocks(document: &str) -> Vec<(usize, String, String)> {
    let mut found: Vec<(usize, String, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in document.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(word) => {
                inside = true;
                found.push((number + 2, word.to_owned(), String::new()));
            }
            None if inside => found.last_mut().unwrap().2.extend([line, "\n"]),
            None => {}
        }
    }
    assert!(!inside, "a block has no end");
    found
}

#[test]
fn the_option_table_is_the_codes() {
    let documented = table(&document("docs/reference.md"), "| where | option | default | meaning |");
    let said: Vec<_> = documented
        .iter()
        .map(|row| (row[0].clone(), quoted(&row[1])[0].to_owned(), quoted(&row[2]).join("")))
        .collect();
    let place = |place: &Place| match place {
        Place::Table => "table",
        other => other.noun(),
    };
    let coded: Vec<_> = OPTIONS
        .iter()
        .map(|option| {
            let places: Vec<_> = option.places.iter().map(place).collect();
            (places.join(", "), option.name.to_owned(), option.default.unwrap_or_default().to_owned())
        })
        .collect();
    let sorted = |list: Vec<(String, String, String)>| list.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(sorted(said), sorted(coded));

    for option in OPTIONS {
        let meaning = &documented.iter().find(|row| quoted(&row[1])[0] == option.name).unwrap()[3];
        let superusers = option.permission == Permission::Superuser || option.name == "base_url";
        assert_eq!(meaning.contains("superusers only"), superusers, "{}", option.name);
        let files = option.permission == Permission::ReadServerFiles;
        assert_eq!(meaning.contains("pg_read_server_files"), files, "{}", option.name);
    }
    let objects: Vec<_> = Object::ALL.iter().map(|object| object.name()).collect();
    let object = documented.iter().find(|row| row[1] == "`object`").unwrap();
    assert_eq!(quoted(&object[3]), objects);
}

#[test]
fn the_column_table_is_the_codes() {
    for object in Object::ALL {
        let reference = document("docs/reference.md");
        let documented = table(section(&reference, *object), "| column | type | from the reply |");
        let said: Vec<_> = documented
            .iter()
            .map(|row| (quoted(&row[0])[0].to_owned(), quoted(&row[1])[0].to_owned()))
            .collect();
        let coded: Vec<_> = object
            .columns()
            .iter()
            .map(|column| {
                let not_null = if column.not_null { " not null" } else { "" };
                (column.name.to_owned(), format!("{}{not_null}", column.of.sql()))
            })
            .collect();
        assert_eq!(said, coded);
    }
}

/// The part of the reference about one object's table.
fn section(reference: &str, object: Object) -> &str {
    let heading = format!("## Columns of {}\n", object.name());
    let text = &reference[reference.find(&heading).unwrap() + heading.len()..];
    let end = text.match_indices("## Columns of ").next().map_or(text.len(), |(end, _)| end);
    &text[..end]
}

#[test]
fn the_tables_of_what_is_sent_are_the_codes() {
    let reference = document("docs/reference.md");
    Object::ALL.iter().for_each(|object| what_is_sent(&reference, *object));
}

fn what_is_sent(reference: &str, object: Object) {
    const HEADER: &str = "| column | comparison | becomes |";
    let section = section(reference, object);
    let documented = if section.contains(HEADER) { table(section, HEADER) } else { Vec::new() };
    let said_once = |filterable| {
        // What is the same for every table is documented with the conversations.
        object != Object::Conversations && matches!(filterable, Filterable::Id | Filterable::PageId)
    };
    let sign = |comparison| match comparison {
        Comparison::Equal => "=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::AnyOf => "= ANY",
        Comparison::Contains => "@>",
        Comparison::Has => "x = ANY (tags)",
        Comparison::Overlaps => "&&",
    };
    for column in object.columns().iter().map(|column| column.name) {
        let rows: Vec<_> = documented.iter().filter(|row| quoted(&row[0]) == [column]).collect();
        let filterable = Filterable::by_column(column).filter(|filterable| !said_once(*filterable));
        let Some(filterable) = filterable else {
            assert!(rows.is_empty(), "{column}");
            continue;
        };
        for comparison in Comparison::ALL {
            let said = rows.iter().find(|row| quoted(&row[1]).contains(&sign(comparison)));
            let said = said.map(|row| !row[2].starts_with("nothing"));
            let name = format!("{}.{column} {}", object.name(), sign(comparison));
            let possible = Pushdown::of(object, filterable, comparison);
            assert_eq!(said, possible.map(|possible| possible == Pushdown::Sent), "{name}");
        }
    }
}

#[test]
fn the_error_tables_hold_every_sqlstate() {
    let coded: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.sqlstate().to_owned()).collect();
    for (name, header) in [
        ("docs/errors.md", "| SQLSTATE | what happened | what to do |"),
        ("README.vi.md", "| SQLSTATE | Lỗi | Cách xử lý |"),
    ] {
        let documented = table(&document(name), header);
        let said: BTreeSet<_> =
            documented.iter().flat_map(|row| quoted(&row[0])).map(str::to_owned).collect();
        match name {
            "docs/errors.md" => assert_eq!(said, coded),
            _ => assert!(said.is_subset(&coded), "{said:?}"),
        }
    }
}

#[test]
fn every_bad_reply_has_its_remedy() {
    let errors = document("docs/errors.md");
    let rows = table(&errors, "| message | from Pancake | what to do |");
    let told: BTreeSet<_> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    let missing: BTreeSet<_> =
        replies::cases().iter().map(|case| case.2).filter(|message| !told.contains(message)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let mut sources = Vec::new();
    words::files(&tree::repository().join("crates/pancake/src"), &["rs"], &mut sources);
    let source: String = sources.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let source = source + &document("src/pg/catalog.rs");
    // These are of lists that no case of a bad reply above is about.
    for message in ["list of messages never rests", "row of the reply is not a …"] {
        assert!(told.contains(message), "{message}");
    }
    for message in told {
        // Of a message with a name in it, what stands before the name; tokens are named in the
        // middle.
        let fixed = message.split(['"', '…']).next().unwrap().trim_end();
        let fixed =
            fixed.strip_prefix("page access token ").filter(|_| !source.contains(fixed)).unwrap_or(fixed);
        assert!(
            fixed == "conversations: []" || source.contains(fixed) || fixed.starts_with("reply has no list"),
            "{message}"
        );
    }
    // The codes and statuses of the API's own lists.
    let from: String = rows.iter().map(|row| row[1].as_str()).collect::<Vec<_>>().join(" ");
    for code in
        ["100", "101", "102", "103", "105", "106", "107", "121", "122", "401", "403", "404", "429", "5xx"]
    {
        assert!(from.contains(code), "{code}");
    }
}

/// A document's statements with the simulator in Pancake's place.
fn staged(sql: &str, shop: &Shop, token_file: &str) -> String {
    let base_url = format!("base_url {}, requests_per_second '1000'", literal(&shop.simulator.base_url()));
    let line = |line: &str| {
        let line = match line.strip_prefix("CREATE SERVER ") {
            Some(_) if line.contains("OPTIONS (") => {
                line.replace("OPTIONS (", &format!("OPTIONS ({base_url}, "))
            }
            Some(_) => line.replace(';', &format!(" OPTIONS ({base_url});")),
            // A statement that writes statements.
            None if line.contains("'CREATE SERVER ") => {
                line.replace("OPTIONS (", &format!("OPTIONS ({}, ", base_url.replace('\'', "''")))
            }
            None => line.to_owned(),
        };
        line.replace(" access_token '…'", &format!(" access_token {}", literal(shop.simulator.user_token())))
            .replace("'…'", &literal(&shop.simulator.first_page().token()))
            .replace("/etc/pancake.tokens", token_file)
    };
    sql.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// As in the demo, so that what is quoted can be compared.
fn settings() -> Settings {
    let page = |ordinal| PageSettings { conversations: 4_800, days: 30, ..PageSettings::numbered(ordinal) };
    Settings { pages: vec![page(0), page(1)], ..Settings::default() }
}

/// A page as in the demo, and nineteen smaller ones.
fn twenty_pages() -> Settings {
    let small = |ordinal| PageSettings { conversations: 90, days: 30, ..PageSettings::numbered(ordinal) };
    Settings {
        pages: settings().pages.into_iter().take(1).chain((1..20).map(small)).collect(),
        ..Settings::default()
    }
}

/// Every block marked `sql`, in order, in one psql; those marked `sql later` after all others, and
/// `sql pg_cron` where that is installed: then what was scheduled is run as well.
#[test]
fn the_sql_of_the_documents_runs() {
    let tree = Tree::with_extension().unwrap();
    let has_cron = tree.ask("--sharedir").unwrap().join("extension/pg_cron.control").exists();
    for (name, settings) in [
        ("README.md", settings()),
        ("README.vi.md", settings()),
        ("docs/cookbook.md", twenty_pages()),
        ("docs/costs.md", settings()),
        ("docs/doctor.md", settings()),
        ("docs/reference.md", settings()),
        ("docs/sync.md", settings()),
        ("docs/webhook.md", settings()),
    ] {
        // Roles belong to the whole cluster, and pg_cron to one database of it: the second.
        let cron = [("shared_preload_libraries", "pg_cron"), ("cron.database_name", "documents_1")];
        let cluster = Cluster::start_with(if has_cron { &cron } else { &[] }).unwrap();
        let shop = Shop::open_in(&cluster, settings, &[]).unwrap();
        let database = cluster.empty_database("documents").unwrap();
        let token_file = cluster.socket_dir().join("tokens");
        fs::write(&token_file, shop.simulator.token_file()).unwrap();

        let mut blocks = blocks(&document(name));
        if name.starts_with("docs") {
            // They continue README's first steps: the extension, and the schema of a page.
            let first = self::blocks(&document("README.md"));
            let first = first.into_iter().filter(|(_, word, _)| word == "sql").take(2);
            blocks = first.chain(blocks).collect();
        }
        let scheduled = has_cron && blocks.iter().any(|(_, word, _)| word == "sql pg_cron");
        let in_order = |word: &str| word == "sql" || (word == "sql pg_cron" && has_cron);
        let (first, rest): (Vec<_>, Vec<_>) = blocks.iter().partition(|(_, word, _)| in_order(word));
        assert!(first.len() > 2, "{name} has lost its SQL");
        let later = rest.into_iter().filter(|(_, word, _)| word == "sql later");
        // Notices are no errors.
        let mut script = "SET client_min_messages = warning;\n".to_owned();
        if scheduled {
            script += "CREATE EXTENSION pg_cron;\n";
        }
        for (line, _, sql) in first.into_iter().chain(later) {
            script +=
                &format!("\\echo '{name}:{line}'\n{}\n", staged(sql, &shop, token_file.to_str().unwrap()));
        }
        if scheduled {
            script += "SELECT command FROM cron.job ORDER BY jobid \\gexec\n";
        }
        let output = database.psql(&script).unwrap();
        let last = output.stdout.lines().rfind(|line| line.starts_with(name));
        assert_eq!(output.status, 0, "after {last:?}:\n{}", output.stderr);
        assert_eq!(output.stderr, "", "{name}");
        polite(&shop);
    }
}

/// Figures differ from run to run, words do not.
pub(super) fn masked(text: &str) -> String {
    let mut digits = false;
    let figure = |c: char| {
        if c.is_ascii_digit() || (digits && c == '.') {
            (!std::mem::replace(&mut digits, true)).then_some('#')
        } else {
            digits = false;
            Some(c)
        }
    };
    text.chars().filter_map(figure).collect()
}

/// Long lines are broken in the documents.
pub(super) fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_quotations_are_real() {
    let mut settings = settings();
    settings.pages.truncate(1);
    let shop = Shop::open_with(settings, &[("requests_per_second", "4")]).unwrap();
    let mut session = shop.connect().unwrap();
    let documents = ["README.md", "docs/costs.md", "docs/doctor.md", "docs/errors.md"];
    let blocks: Vec<_> = documents.iter().flat_map(|name| blocks(&document(name))).collect();
    let quotations = || blocks.iter().filter(|(_, word, _)| word == "text").map(|(_, _, text)| text);

    let (statement, plan) =
        quotations().find_map(|text| text.strip_prefix("EXPLAIN (")?.split_once(";\n\n")).unwrap();
    let (options, query) = statement.split_once(") ").unwrap();
    let plan: Vec<_> = plan.lines().map(|line| masked(line.strip_prefix(' ').unwrap_or(line))).collect();
    let real = session.explain_with(&format!("{options}, SUMMARY OFF"), query).unwrap();
    let real: Vec<_> = real.lines().map(masked).collect();
    assert_eq!(plan, real);

    let tour = document("tests/e2e/tour.sql");
    let (title, rest) =
        quotations().find(|text| text.starts_with("━━━")).unwrap().split_once("\n\n").unwrap();
    let (statement, _) = rest.split_once(";\n").unwrap();
    assert!(tour.contains(&format!("'{title}'")) && tour.contains(statement), "{title}");

    let shown = quotations().find(|text| text.starts_with("server ")).unwrap();
    let told = session.rows("SELECT item, status, detail, hint FROM pancake.doctor('shop')").unwrap();
    let told: String = told.into_iter().flatten().flatten().map(|cell| cell + " ").collect();
    let told = told.replace(&shop.simulator.base_url(), "https://pages.fm/api");
    assert_eq!(masked(&joined(shown)), masked(&joined(&told)));

    session
        .execute(
            "ALTER USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (SET page_access_token 'not-the-token')",
        )
        .unwrap();
    let error = session.error("SELECT id FROM shop.conversations").unwrap();
    let shown = quotations().find(|text| text.starts_with("ERROR:")).unwrap();
    let detail = error.detail.unwrap();
    let detail = detail.rsplit_once(' ').unwrap().0;
    for part in [error.message.as_str(), detail, error.hint.as_deref().unwrap()] {
        assert!(shown.contains(part), "{part}");
    }
}

#[test]
fn links_lead_somewhere() {
    let docs = fs::read_dir(tree::repository().join("docs")).unwrap();
    let docs = docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_string_lossy()));
    let top = ["README.md", "README.vi.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned);
    for name in top.into_iter().chain(docs.filter(|name| name.ends_with(".md"))) {
        let text = document(&name);
        let anchor = |heading: &str| {
            let kept = heading.to_lowercase().replace(' ', "-");
            kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect::<String>()
        };
        let fenced: BTreeSet<usize> = blocks(&text)
            .iter()
            .flat_map(|(line, _, block)| (line - 1)..(line - 1 + block.lines().count()))
            .collect();
        let headings = text.lines().enumerate().filter(|(number, _)| !fenced.contains(number));
        let anchors: BTreeSet<_> = headings
            .filter_map(|(_, line)| line.strip_prefix('#'))
            .map(|line| anchor(line.trim_start_matches('#').trim()))
            .collect();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links {
            if let Some(wanted) = link.strip_prefix('#') {
                assert!(anchors.contains(wanted), "{name}: {link} of {anchors:?}");
            } else if !link.starts_with("https://") {
                let here = tree::repository().join(&name);
                let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                let file = here.parent().unwrap().join(file);
                assert!(file.exists(), "{name}: {link}");
                let known = || {
                    fs::read_to_string(&file)
                        .unwrap()
                        .lines()
                        .any(|line| anchor(line.trim_start_matches('#').trim()) == heading)
                };
                assert!(heading.is_empty() || known(), "{name}: {link}");
            }
        }
    }
}

#[test]
fn versions_agree() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(document("CHANGELOG.md").contains(version));
    let control = document("pancake_fdw.control");
    let default = control
        .lines()
        .find_map(|line| line.strip_prefix("default_version = '")?.strip_suffix('\''))
        .unwrap();
    assert!(document(&format!("sql/pancake_fdw--{default}.sql")).contains(default));
    assert_eq!(version.rsplit_once('.').map(|(minor, _)| minor), Some(default));
}
