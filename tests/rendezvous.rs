//! Shards meet over a directory and over TCP, and every way in which they can fail to.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ringmark::plan::shard::{RendezvousPlan, ShardPlan};
use ringmark::record::share::Share;
use ringmark::rendezvous::{CallFacts, Rendezvous};
use ringmark::time::clock::wall_now_ns;

const TOKEN: &str = "0123456789abcdef";
const RUNNING: &dyn Fn() -> bool = &|| false;
/// Long enough for a busy machine, short enough for a test.
const TIMEOUT: Duration = Duration::from_secs(60);
/// For shards that wait in vain.
const SHORT: Duration = Duration::from_secs(2);

fn shard(index: u32, count: u32, rendezvous: &RendezvousPlan, timeout: Duration) -> ShardPlan {
    ShardPlan { share: Share::new(index, count).unwrap(), rendezvous: rendezvous.clone(), address: None, timeout }
}

fn directory(path: &Path) -> RendezvousPlan {
    RendezvousPlan::Directory(path.to_path_buf())
}

fn tcp() -> RendezvousPlan {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    RendezvousPlan::Tcp { host: "127.0.0.1".to_string(), port }
}

fn open(plan: &ShardPlan) -> Result<Rendezvous, String> {
    Rendezvous::open(plan, Some(TOKEN), wall_now_ns, RUNNING).map_err(|error| error.to_string())
}

/// Both transports in turn.
fn each_transport(test: impl Fn(RendezvousPlan)) {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("meet");
    test(directory(&base));
    let left: Vec<_> = fs::read_dir(&base).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "the directory is left empty: {left:?}");
    test(tcp());
}

/// What all shards of a call return from `act`, in their order.
fn all<T: Send>(plans: &[ShardPlan], act: impl Fn(u32, Result<Rendezvous, String>) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let act = &act;
        let shards: Vec<_> =
            plans.iter().map(|plan| scope.spawn(move || act(plan.share.index(), open(plan)))).collect();
        shards.into_iter().map(|shard| shard.join().unwrap()).collect()
    })
}

fn call() -> CallFacts {
    CallFacts { nonce: 7, started: "20260101".to_string(), model: "m".to_string() }
}

/// A call with two runs.
fn whole_call(index: u32, opened: Result<Rendezvous, String>) -> Result<Vec<i64>, String> {
    let mut rendezvous = opened?;
    let text = |error: ringmark::rendezvous::RendezvousError| error.to_string();
    let shared = rendezvous.share_call((index == 0).then(call), RUNNING).map_err(text)?;
    assert_eq!(shared, Some(call()));
    let mut starts = Vec::new();
    for run in 1..=2 {
        rendezvous.ready(run, "aa", RUNNING).map_err(text)?;
        starts.push(rendezvous.start(RUNNING).map_err(text)?);
    }
    Ok(starts)
}

#[test]
fn all_shards_get_the_call_and_the_start_of_each_run() {
    each_transport(|how| {
        for count in [1, 2, 5] {
            let plans: Vec<_> = (0..count).map(|index| shard(index, count, &how, TIMEOUT)).collect();
            let starts = all(&plans, whole_call);
            assert!(starts.iter().all(|start| start.is_ok() && start == &starts[0]), "{starts:?}");
        }
    });
}

#[test]
fn a_shard_that_does_not_come_is_named() {
    each_transport(|how| {
        let plans = [shard(0, 4, &how, SHORT), shard(2, 4, &how, TIMEOUT)];
        for error in all(&plans, whole_call) {
            let error = error.unwrap_err();
            assert!(error.contains("shard 1 and 3 did not come to the rendezvous"), "{error}");
        }
        let error = all(&[shard(1, 2, &how, SHORT)], whole_call).remove(0).unwrap_err();
        assert!(error.contains("shard 0 did not come to --rendezvous"), "{error}");
    });
}

#[test]
fn a_shard_that_ends_or_fails_ends_all_others() {
    each_transport(|how| {
        for fails in [false, true] {
            let timeout = if fails { TIMEOUT } else { SHORT };
            let plans: Vec<_> = (0..3).map(|index| shard(index, 3, &how, timeout)).collect();
            let ended = all(&plans, |index, opened| {
                let mut rendezvous = opened?;
                if index != 1 {
                    return whole_call(index, Ok(rendezvous));
                }
                if fails {
                    rendezvous.fail("cannot read data.jsonl");
                }
                Ok(Vec::new())
            });
            for index in [0, 2] {
                let error = ended[index].clone().unwrap_err();
                assert!(error.contains("shard 1"), "{error}");
                assert_eq!(error.contains("shard 1 failed: cannot read data.jsonl"), fails, "{error}");
            }
        }
    });
}

#[test]
fn shard_0_that_ends_or_fails_ends_all_others() {
    each_transport(|how| {
        for fails in [false, true] {
            let plans: Vec<_> =
                (0..3).map(|index| shard(index, 3, &how, if fails { TIMEOUT } else { SHORT })).collect();
            let ended = all(&plans, |index, opened| {
                let mut rendezvous = opened?;
                if index == 0 {
                    if fails {
                        rendezvous.fail("no model");
                    }
                    return Ok(Vec::new());
                }
                whole_call(index, Ok(rendezvous))
            });
            for error in ended.into_iter().skip(1) {
                let error = error.unwrap_err();
                assert!(error.contains("shard 0"), "{error}");
                assert_eq!(error.contains("shard 0 failed: no model"), fails, "{error}");
            }
        }
    });
}

#[test]
fn different_plans_are_an_error_on_every_shard() {
    each_transport(|how| {
        let plans: Vec<_> = (0..3).map(|index| shard(index, 3, &how, TIMEOUT)).collect();
        let errors = all(&plans, |index, opened| {
            let mut rendezvous = opened.unwrap();
            rendezvous.share_call((index == 0).then(call), RUNNING).unwrap();
            rendezvous.ready(1, if index == 2 { "bb" } else { "aa" }, RUNNING).unwrap_err().to_string()
        });
        assert!(
            errors.iter().all(|error| error.contains("shard 2 has another plan (bb) than shard 0 (aa)")),
            "{errors:?}"
        );
    });
}

#[test]
fn another_version_is_an_error_on_every_shard() {
    each_transport(|how| {
        let plans: Vec<_> = (0..3).map(|index| shard(index, 3, &how, TIMEOUT)).collect();
        let errors = all(&plans, |index, opened| {
            let opened = opened.unwrap();
            let mut rendezvous = if index == 1 { opened.with_version("99.1") } else { opened };
            rendezvous.share_call((index == 0).then(call), RUNNING).unwrap_err().to_string()
        });
        let expected = format!("shard 1 has another version (99.1) than shard 0 ({})", env!("CARGO_PKG_VERSION"));
        assert!(errors.iter().all(|error| *error == expected), "{errors:?}");
    });
}

/// A shard whose clock is ahead by an hour finds that out, and begins with the others.
#[test]
fn shards_whose_clocks_differ_start_at_the_same_time() {
    fn an_hour_ahead() -> i64 {
        wall_now_ns() + 3_600_000_000_000
    }
    each_transport(|how| {
        let plans: Vec<_> = (0..3).map(|index| shard(index, 3, &how, TIMEOUT)).collect();
        let ended = thread::scope(|scope| {
            let shards: Vec<_> = plans
                .iter()
                .map(|plan| {
                    scope.spawn(move || {
                        let clock = if plan.share.index() == 1 { an_hour_ahead } else { wall_now_ns };
                        let mut rendezvous = Rendezvous::open(plan, Some(TOKEN), clock, RUNNING).unwrap();
                        rendezvous.ready(1, "aa", RUNNING).unwrap();
                        let start = rendezvous.start(RUNNING).map_err(|error| error.to_string());
                        (start, rendezvous.clock_offset().unwrap())
                    })
                })
                .collect();
            shards.into_iter().map(|shard| shard.join().unwrap()).collect::<Vec<_>>()
        });
        let starts: Vec<i64> = ended.iter().map(|(start, _)| start.clone().unwrap()).collect();
        assert_eq!(starts[0], starts[2]);
        let width_ns = ended[1].1.high_ns - ended[1].1.low_ns;
        assert!((starts[1] - starts[0] - 3_600_000_000_000).abs() <= width_ns, "{ended:?}");
        for ((_, offset), truth) in ended.iter().zip([0, -3_600_000_000_000, 0]) {
            assert!(offset.low_ns <= truth && truth <= offset.high_ns, "{ended:?}");
        }
    });
}

#[test]
fn one_number_twice_is_an_error_on_every_shard() {
    each_transport(|how| {
        let plans = [0, 1, 1].map(|index| shard(index, 3, &how, TIMEOUT));
        for error in all(&plans, whole_call) {
            let error = error.unwrap_err();
            assert!(error.contains("two processes are shard 1"), "{error}");
        }
    });
}

#[test]
fn different_numbers_of_shards_are_an_error() {
    each_transport(|how| {
        let plans = [shard(0, 2, &how, TIMEOUT), shard(1, 3, &how, TIMEOUT)];
        for error in all(&plans, whole_call) {
            let error = error.unwrap_err();
            assert!(error.contains("shard 1 was started with 3 shards, and shard 0 with 2"), "{error}");
        }
    });
}

/// What killed jobs have left: a call that waited for shards, one that had its shards and messages, and one that refused.
#[test]
fn files_of_earlier_jobs_are_never_met() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("meet");
    let how = directory(&base);
    fs::create_dir(&base).unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o700)).unwrap();
    for (call_name, files) in [
        ("call-1", &["hello-1-2-aa"][..]),
        ("call-2", &["hello-1-2-bb", "members", "0-0", "0-1", "1-0", "1-1"]),
        ("call-3", &["hello-1-2-cc", "refused"]),
    ] {
        fs::create_dir(base.join(call_name)).unwrap();
        files.iter().for_each(|file| fs::write(base.join(call_name).join(file), "bb\n").unwrap());
    }
    let plans = [0, 1].map(|index| shard(index, 2, &how, TIMEOUT));
    let starts = all(&plans, whole_call);
    assert!(starts.iter().all(Result::is_ok), "{starts:?}");
    // The new call is gone, and nothing was added to the old ones.
    let mut left: Vec<String> =
        fs::read_dir(&base).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["call-1", "call-2", "call-3"]);
    assert_eq!(fs::read_dir(base.join("call-1")).unwrap().count(), 1);
}

#[test]
fn a_directory_of_others_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let open_to_all = folder.path().join("public");
    fs::create_dir(&open_to_all).unwrap();
    fs::set_permissions(&open_to_all, fs::Permissions::from_mode(0o777)).unwrap();
    let error = open(&shard(0, 1, &directory(&open_to_all), SHORT)).unwrap_err();
    assert!(error.contains("others can use it") && error.contains("chmod 700"), "{error}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(open(&shard(0, 1, &directory(&file), SHORT)).unwrap_err().contains("no directory"));
    let own = folder.path().join("own");
    drop(open(&shard(0, 1, &directory(&own), SHORT)).unwrap());
    assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o700);
}

fn connect(how: &RendezvousPlan) -> TcpStream {
    let RendezvousPlan::Tcp { host, port } = how else { panic!("{how:?}") };
    loop {
        match TcpStream::connect((host.as_str(), *port)) {
            Ok(stream) => return stream,
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Strangers that are silent, send nonsense, or greet without the token neither join nor keep the shards from meeting.
#[test]
fn strangers_on_the_port_do_not_count() {
    let how = tcp();
    thread::scope(|scope| {
        let first = scope.spawn(|| whole_call(0, open(&shard(0, 2, &how, TIMEOUT))));
        let silent: Vec<TcpStream> = (0..8).map(|_| connect(&how)).collect();
        connect(&how).write_all(&[b'x'; 4096]).unwrap();
        let mut greeting = connect(&how);
        greeting.write_all(&[&b"rmrkrdv1"[..], &[7; 32]].concat()).unwrap();
        let mut nonce = [0; 32];
        greeting.read_exact(&mut nonce).unwrap();
        greeting.write_all(&[&[0, 0, 0, 2][..], b"{}", &[0; 32]].concat()).unwrap();
        assert_eq!(greeting.read(&mut nonce).unwrap_or(0), 0, "it is closed without an answer");
        let wrong = Rendezvous::open(&shard(1, 2, &how, TIMEOUT), Some("another token 123"), wall_now_ns, RUNNING);
        let error = wrong.unwrap_err().to_string();
        assert!(error.contains("RINGMARK_JOB_TOKEN"), "{error}");
        let second = whole_call(1, open(&shard(1, 2, &how, TIMEOUT)));
        assert!(second.is_ok() && first.join().unwrap() == second);
        drop(silent);
    });
}

/// Once all shards have come, nobody else can connect.
#[test]
fn the_port_is_closed_when_all_have_come() {
    let how = tcp();
    let RendezvousPlan::Tcp { port, .. } = how.clone() else { panic!() };
    let plans = [0, 1].map(|index| shard(index, 2, &how, TIMEOUT));
    let met = all(&plans, |_, opened| opened.unwrap());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    let error = open(&shard(1, 2, &how, SHORT)).unwrap_err();
    assert!(error.contains("two processes may be shard 1"), "{error}");
    drop(met);
}

#[test]
fn an_interrupt_ends_the_wait() {
    each_transport(|how| {
        for index in [0, 1] {
            let error =
                Rendezvous::open(&shard(index, 2, &how, TIMEOUT), Some(TOKEN), wall_now_ns, &|| true).unwrap_err();
            assert!(error.to_string().starts_with("interrupted"), "{error}");
        }
    });
}

/// Without communication, all start at the time that they were given.
#[test]
fn a_time_needs_no_messages() {
    let plan = shard(1, 3, &RendezvousPlan::At { unix_ns: 5_000 }, SHORT);
    let mut rendezvous = open(&plan).unwrap();
    assert_eq!(rendezvous.share_call(None, RUNNING), Ok(None));
    rendezvous.ready(1, "aa", RUNNING).unwrap();
    assert!(rendezvous.start(RUNNING).unwrap_err().to_string().contains("not ready at the start"));
    let plan = shard(1, 3, &RendezvousPlan::At { unix_ns: i64::MAX }, SHORT);
    assert_eq!(open(&plan).unwrap().start(RUNNING), Ok(i64::MAX));
    assert_eq!(open(&plan).unwrap().clock_offset(), None);
}
