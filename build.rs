//! This script passes the version of pgrx to the library, for `pancake.version()`.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let pgrx = lock.split("[[package]]").find(|package| package.contains("name = \"pgrx\"\n"));
    let version =
        pgrx.and_then(|package| package.split("version = \"").nth(1)).and_then(|rest| rest.split('"').next());
    println!("cargo::rustc-env=PGRX_VERSION={}", version.unwrap_or("unknown"));
}
