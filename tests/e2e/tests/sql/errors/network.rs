//! What goes wrong before there is a reply: names, connections, TLS, and time that runs out in each
//! phase.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use e2e::Shop;
use pancake_simulator::{Fault, Settings, Simulator, Times};

use super::{COUNT, Told, impatient, still_exact};

const LOOK: &str = "network, DNS and firewall";

/// A shop whose server is then sent elsewhere.
fn sent_to(base_url: &str, more: &str) -> Shop<'static> {
    let shop = impatient(10);
    let alter = format!("ALTER SERVER shop OPTIONS (SET base_url '{base_url}'{more})");
    shop.connect().unwrap().execute(&alter).unwrap();
    shop
}

#[test]
fn a_closed_port() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let shop = sent_to(&format!("http://127.0.0.1:{port}/api"), "");
    let error = shop.connect().unwrap().error(COUNT).unwrap();
    let told = Told {
        sqlstate: "HV00N",
        message: "could not connect to the API",
        detail: "onnection refused",
        hint: LOOK,
    };
    told.check(&error, "closed port");
}

/// Pancake restarts: for 0.3 s it refuses every connection.
#[test]
fn a_moment_of_refused_connections_is_survived() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let shop = Shop::open(Settings::of(10)).unwrap();
    let mut session = shop.connect().unwrap();
    session
        .execute(&format!("ALTER SERVER shop OPTIONS (SET base_url 'http://127.0.0.1:{port}/api')"))
        .unwrap();
    let pid = session.pid().unwrap();
    let reads =
        std::thread::spawn(move || session.explain_analyze("SELECT id FROM shop.conversations").unwrap());
    let deadline = Instant::now() + Duration::from_secs(10);
    let retried =
        format!("SELECT count(*) FROM pancake.progress WHERE waiting_for = 'retry' AND pid = {pid}");
    while shop.connect().unwrap().one(&retried).unwrap() == "0" {
        assert!(Instant::now() < deadline, "it does not wait for another try");
    }
    let _late = Simulator::start(Settings { port, ..Settings::of(10) }).unwrap();
    let plan = reads.join().unwrap();
    assert!(plan.contains(" 10 rows") && !plan.contains("(0 retried"), "{plan}");
}

#[test]
fn a_name_that_does_not_resolve_is_looked_up_again() {
    let shop = sent_to("https://nonexistent.invalid/api", "");
    let mut session = shop.connect().unwrap();
    session.execute("ALTER SERVER shop OPTIONS (SET max_retries '1')").unwrap();
    let error = session.error(COUNT).unwrap();
    assert!(error.detail.as_deref().unwrap().contains("It was tried 2 times."), "{error}");
}

#[test]
fn a_name_that_does_not_resolve() {
    let shop = sent_to("https://nonexistent.invalid/api", "");
    let error = shop.connect().unwrap().error(COUNT).unwrap();
    let told = Told {
        sqlstate: "HV00N",
        message: "could not resolve the host name of the API",
        detail: "",
        hint: LOOK,
    };
    told.check(&error, "name");
}

#[test]
fn a_certificate_of_an_unknown_authority_and_its_cure() {
    let settings = Settings { tls: true, ..Settings::of(70) };
    let shop = Shop::open_with(settings, &[("max_retries", "0")]).unwrap();
    let mut session = shop.connect().unwrap();
    let (error, log) = shop.watch(|| session.error(COUNT).unwrap());
    let told = Told {
        sqlstate: "HV00N",
        message: "cannot trust the TLS certificate of the API",
        detail: "UnknownIssuer",
        hint: "ca_file",
    };
    told.check(&error, "unknown authority");
    assert!(log.is_empty(), "no request, and so no token, left before the certificate was trusted");

    let file = shop.database.cluster().socket_dir().join("authority.pem");
    let say = |session: &mut e2e::Session, verb: &str| {
        session.execute(&format!("ALTER SERVER shop OPTIONS ({verb} ca_file '{}')", file.display())).unwrap();
    };
    say(&mut session, "ADD");
    let error = session.error(COUNT).unwrap();
    super::well_formed(&error, "no such file");
    assert_eq!(error.sqlstate, "HV024");
    assert!(error.detail.as_deref().unwrap().contains("authority.pem"), "{error}");

    std::fs::write(&file, "no certificate\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = session.error(COUNT).unwrap();
    super::well_formed(&error, "no certificate");
    assert_eq!(error.sqlstate, "HV024");

    std::fs::write(&file, shop.simulator.ca_pem().unwrap()).unwrap();
    still_exact(&shop, &mut session);
    shop.assert_no_violations().unwrap();
}

#[test]
fn plain_http_where_tls_is_expected() {
    let shop = impatient(10);
    let url = shop.simulator.base_url().replace("http://", "https://");
    let mut session = shop.connect().unwrap();
    session.execute(&format!("ALTER SERVER shop OPTIONS (SET base_url '{url}')")).unwrap();
    let error = session.error(COUNT).unwrap();
    super::well_formed(&error, "http for https");
    assert_eq!(error.sqlstate, "HV00N", "{error}");
    assert!(error.message.contains("TLS"), "{error}");
}

#[test]
fn time_runs_out_in_each_phase() {
    let shop =
        Shop::open_with(Settings::of(60), &[("max_retries", "0"), ("request_timeout", "300ms")]).unwrap();
    let mut session = shop.connect().unwrap();
    for (fault, message) in [
        (Fault::Hang, "timeout while waiting for the reply"),
        (Fault::HangMidBody, "timeout while reading the reply"),
        (Fault::Slow(20_000), "timeout while reading the reply"),
    ] {
        let case = format!("{fault:?}");
        shop.simulator.fault(fault, Times::Always);
        let begun = Instant::now();
        let error = session.error(COUNT).unwrap();
        let passed = begun.elapsed();
        Told {
            sqlstate: "HV00N",
            message,
            detail: "longer than 300ms, the server option request_timeout",
            hint: LOOK,
        }
        .check(&error, &case);
        assert!(
            passed >= Duration::from_millis(300) && passed < Duration::from_secs(2),
            "{case}: {passed:?}"
        );
        shop.simulator.clear_faults();
    }
    still_exact(&shop, &mut session);
}

#[test]
fn connecting_has_its_own_time() {
    // Takes connections, and sends nothing: the TLS handshake hangs.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://127.0.0.1:{}/api", silent.local_addr().unwrap().port());
    let shop = sent_to(&url, ", ADD connect_timeout '300ms'");
    let begun = Instant::now();
    let error = shop.connect().unwrap().error(COUNT).unwrap();
    let told = Told {
        sqlstate: "HV00N",
        message: "timeout while connecting (DNS, TCP or TLS)",
        detail: "longer than 300ms, the server option connect_timeout",
        hint: LOOK,
    };
    told.check(&error, "silent");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_connection_that_closes_without_a_word() {
    let shop = impatient(10);
    let mut session = shop.connect().unwrap();
    shop.simulator.fault(Fault::DroppedBeforeHeaders, Times::Always);
    let error = session.error(COUNT).unwrap();
    let told = Told {
        sqlstate: "HV00N",
        message: "connection was lost while waiting for the reply",
        detail: "",
        hint: LOOK,
    };
    told.check(&error, "dropped");
    still_exact(&shop, &mut session);
}

#[test]
fn a_slow_reply_in_time_is_an_answer() {
    let shop = impatient(10);
    shop.simulator.fault(Fault::Slow(100_000), Times::Always);
    assert_eq!(shop.connect().unwrap().one(COUNT).unwrap(), "10");
}

#[test]
fn a_proxy_is_used_where_the_option_says_so_and_only_there() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let shop = impatient(10);
    let mut session = shop.connect().unwrap();
    let proxy = format!("http://{}", trap.local_addr().unwrap());
    session.execute(&format!("ALTER SERVER shop OPTIONS (ADD proxy '{proxy}')")).unwrap();
    let asking = std::thread::spawn(move || session.error(COUNT).map(|error| (session, error)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while trap.accept().is_err() {
        assert!(Instant::now() < deadline, "the proxy was never asked");
        std::thread::yield_now();
    }
    let (mut session, error) = asking.join().unwrap().unwrap();
    assert_eq!(error.sqlstate, "HV00N", "{error}");
    super::well_formed(&error, "proxy");
    session.execute("ALTER SERVER shop OPTIONS (DROP proxy)").unwrap();
    still_exact(&shop, &mut session);
    assert!(trap.accept().is_err());
}
