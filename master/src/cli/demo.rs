//! `halite demo`: a whole fleet on this machine, with nothing pretended: a master and minions as processes of their own,
//! real keys, real host activity that trips the beacons, a reaction, its job and its returns.

mod activity;
mod show;
mod tally;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::time::Instant;

use super::Globals;
use super::exit;
use crate::api::client::{Client, Events};
use crate::api::{SOCKET_NAME, keys::KeyRequest};
use crate::fleet::{Binaries, Daemon, Site};
use activity::Activity;
use show::Show;
use tally::Tally;

/// How long the fleet may take until every minion is connected.
const CONNECT: Duration = Duration::from_secs(30);
/// How many acknowledged events are sent to see whether the log has each of them once.
const PROBES: usize = 5;

/// A fleet on this machine: a master, minions, beacons, a reaction. It ends, and takes all its processes and files with
/// it, on Ctrl-C or after --for.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  halite demo --for 20s --json")]
pub(crate) struct DemoArgs {
    /// End after this time (20s, 2m) [default: on Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = super::span::span)]
    span: Option<Duration>,
    /// Print one JSON document with the counts at the end, and nothing else on stdout
    #[arg(long)]
    json: bool,
    /// How many minions
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    minions: u16,
}

/// Runs the demonstration.
pub(crate) async fn run(globals: &Globals, args: DemoArgs) -> anyhow::Result<u8> {
    let show = Show::new(args.json, globals.output.no_color);
    show.step("Finding (in a checkout: building) halite-master and halite-minion");
    let binaries = tokio::task::spawn_blocking(Binaries::find).await?.context("failed to start the demonstration")?;
    let dir = tempdir()?;
    let fleet = tokio::task::spawn_blocking({
        let (path, minions, show) = (dir.path().to_owned(), args.minions, show.clone());
        move || Fleet::start(&path, binaries, minions, &show)
    })
    .await?;
    let fleet = fleet?;
    let stop = Box::pin(stop_at(args.span));
    let played = play(&fleet, &args, &show, stop).await;
    show.step("Stopping every process");
    tokio::task::spawn_blocking(move || drop(fleet)).await?;
    played
}

/// Ready when the demonstration is to end.
async fn stop_at(span: Option<Duration>) {
    let over = async {
        match span {
            Some(span) => tokio::time::sleep(span).await,
            None => std::future::pending().await,
        }
    };
    let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(term) => term,
        Err(_) => return over.await,
    };
    tokio::select! {
        () = over => {}
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}

/// The processes. Dropped, they end.
struct Fleet {
    site: Site,
    ids: Vec<String>,
    sh: bool,
    _minions: Vec<Daemon>,
    _master: Daemon,
}

impl Fleet {
    fn start(dir: &Path, binaries: Binaries, minions: u16, show: &Show) -> anyhow::Result<Fleet> {
        let mut site = Site::new(dir, binaries)?;
        show.step(&format!("Starting the master in {}", dir.display()));
        std::fs::write(dir.join("load.sls"), activity::REACTION)?;
        let rule = format!("reactor:\n  - 'salt/beacon/*/load/*':\n    - {}", dir.join("load.sls").display());
        let master = site.start_master(&rule)?;
        let (publish, ret) = site.ports().context("the master did not say its ports")?;
        show.note(&format!("pid {}, ports {publish} (publish) and {ret} (requests), loopback only", master.pid()));
        let sh = activity::sh_source(&site.binaries().minion);
        match &sh {
            Ok(source) => show.note(&format!("the sh beacon uses {source}")),
            Err(reason) => show.note(&format!("the sh beacon cannot run here: {reason}")),
        }
        let ids: Vec<String> = (1..=minions).map(|number| format!("edge{number}")).collect();
        show.step(&format!("Starting {} with beacons load, memusage and sh", ids.join(", ")));
        let beacons = activity::beacons(sh.is_ok())?;
        let started: Result<Vec<Daemon>, _> = ids.iter().map(|id| site.start_minion(id, &beacons)).collect();
        Ok(Fleet { site, ids, sh: sh.is_ok(), _minions: started?, _master: master })
    }

    fn client(&self) -> Client {
        Client::new(self.site.confdir("master").join("var/run/halite/master").join(SOCKET_NAME))
    }
}

/// Accepts the keys, shows the bus, makes things happen, and counts.
async fn play(
    fleet: &Fleet,
    args: &DemoArgs,
    show: &Show,
    mut stop: impl Future<Output = ()> + Unpin,
) -> anyhow::Result<u8> {
    let client = fleet.client();
    let mut events = client.events(&[], "start", None).await?;
    let mut tally = Tally::default();
    show.step("Accepting the minions' keys, as `halite key accept '*' -y` does");
    connect(fleet, &client, &mut events, &mut tally, show).await?;
    show.step("Making the host busy: CPU for `load`, memory for `memusage`, a shell in a pty for `sh`");
    let activity = Activity::start(&fleet.site.binaries().minion, fleet.sh);
    let probes = tokio::task::spawn_blocking({
        let (minion, confdir) = (fleet.site.binaries().minion.clone(), fleet.site.confdir(&fleet.ids[0]));
        move || activity::send_probes(&minion, &confdir, PROBES)
    });
    if args.span.is_none() {
        show.by_hand(&fleet.site);
    }
    loop {
        tokio::select! {
            () = &mut stop => break,
            event = events.next() => match event? {
                Some(event) => {
                    tally.count(&event);
                    activity.seen(&event);
                    show.event(&event);
                }
                None => anyhow::bail!("the master ended before the demonstration did"),
            }
        }
    }
    drop(activity);
    let acknowledged = probes.await?;
    let mut log = client.events(&[], "start", Some("head")).await?;
    while let Some(event) = log.next().await? {
        tally.in_log(&event);
    }
    let lost = tally.lost(acknowledged);
    let report = json!({
        "minions": fleet.ids.len(),
        "beacon_events": {
            "load": tally.beacon("load"),
            "memusage": tally.beacon("memusage"),
            "sh": fleet.sh.then(|| tally.beacon("sh")),
        },
        "reactions": tally.reactions(),
        "jobs": tally.jobs(),
        "returns": tally.returns(),
        "lost": lost,
    });
    show.report(&report);
    Ok(if lost == 0 { exit::OK } else { exit::FAILED })
}

/// Accepts every key as it arrives, until all minions have started.
async fn connect(
    fleet: &Fleet,
    client: &Client,
    events: &mut Events,
    tally: &mut Tally,
    show: &Show,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + CONNECT;
    let accept = KeyRequest { r#match: fleet.ids.clone(), ..KeyRequest::default() };
    while tally.started() < fleet.ids.len() {
        client.change_keys("accept", &accept).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        anyhow::ensure!(!left.is_zero(), "only {} of {} minions connected", tally.started(), fleet.ids.len());
        if let Ok(event) = tokio::time::timeout(Duration::from_millis(500), events.next()).await {
            let event = event?.context("the master ended while the minions were connecting")?;
            tally.count(&event);
            show.event(&event);
        }
    }
    Ok(())
}

fn tempdir() -> anyhow::Result<tempfile::TempDir> {
    // Short, so that the sockets in it fit the 107 bytes a socket's path may have.
    tempfile::Builder::new().prefix("halite-demo-").tempdir().context("make a temporary directory; is TMPDIR writable?")
}
