//! Compares engines: the same peers, written by hand, talk to one server process after the other, and each server tells
//! what it used of a processor and of memory.

mod client;
mod rows;
mod server;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Two threads: as many as the machines these figures are for have cores.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match arguments[..] {
        ["serve", "libzmq", kind] => server::libzmq(kind),
        ["serve", engine, kind] => runtime.block_on(server::run(engine, kind)),
        _ => runtime.block_on(rows::run(arguments.first().copied().unwrap_or_default())),
    }
}
