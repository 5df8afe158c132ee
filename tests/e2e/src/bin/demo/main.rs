//! `make demo` and `make psql`: a shop in a throw-away Postgres, shown by a tour or left to the
//! user. Decides the order of things; which page it is is left to `stage`, the terminal to
//! `prompt`.

mod prompt;
mod stage;

use std::process::ExitCode;

use anyhow::{Result, bail};
use e2e::{Cluster, folder, tree};

use stage::Stage;

const DATABASE: &str = "demo";

fn main() -> ExitCode {
    let wish = std::env::args().nth(1).unwrap_or_default();
    let done = match wish.as_str() {
        "tour" => tour(),
        "psql" => psql(),
        _ => Err(anyhow::anyhow!("usage: demo tour | demo psql")),
    };
    folder::close();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `tour.sql`, statement by statement through psql; the first one that fails ends it.
fn tour() -> Result<()> {
    let stage = Stage::set()?;
    let cluster = Cluster::start()?;
    let database = cluster.empty_database(DATABASE)?;
    println!("{}", stage.describe());

    let page = stage.address();
    let mut psql = database.psql_command();
    psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-v"]).arg(format!("page_id={}", page.page_id));
    if let Some(url) = &page.base_url {
        psql.arg("-v").arg(format!("base_url={url}"));
    }
    psql.env(stage::TOKEN, &page.token);
    if let Some(second) = stage.second() {
        psql.arg("-v").arg(format!("second_page_id={}", second.page_id));
        psql.env(stage::SECOND_TOKEN, &second.token);
    }
    psql.arg("-f").arg(tree::repository().join("tests/e2e/tour.sql"));
    let status = psql.status()?;
    if !status.success() {
        bail!("the tour ended early: psql {status}");
    }
    stage.assert_no_violations()
}

/// The same shop under `shop.*`, and the terminal to the user.
fn psql() -> Result<()> {
    let stage = Stage::set()?;
    let cluster = Cluster::start()?;
    let database = cluster.database(DATABASE)?;
    stage.address().import(&mut database.connect()?, "shop", &[])?;
    println!("{}", stage.describe());
    println!("Everything is thrown away when you leave (\\q). Try:");
    println!("  SELECT customer_name, snippet FROM shop.conversations ORDER BY updated_at DESC LIMIT 10;");
    println!("  SELECT * FROM pancake.doctor('shop');");
    println!("  \\d shop.*");
    prompt::run(database.psql_command(), folder::Folder::shared()?.path())
}
