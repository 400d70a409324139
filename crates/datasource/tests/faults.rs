//! Services that are slow, wrong, too large or not there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test's panic is its verdict.

mod service;

use kairn_datasource::{Dmi, Error, Hints, Options, ProviderName, fetch};
use kairn_report::{Event, Outcome};
use service::{Reply, Service, nothing, ok, options, status};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn reason(options: &Options, hints: &Hints) -> String {
    match fetch(options, hints, &mut Vec::new()) {
        Err(Error::NothingFound { tried }) => tried.into_iter().map(|(_, why)| why).collect::<Vec<_>>().join("; "),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_that_says_nothing_costs_its_time_only() {
    let service = Service::start(|_| Reply { silence: Duration::from_secs(30), ..ok("x") });
    let begin = Instant::now();
    let why = reason(&options(ProviderName::DigitalOcean, &service.base), &nothing());
    assert!(why.starts_with(&format!("no answer from `{}/metadata/v1/id`", service.base)), "{why}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_machine_without_the_address_goes_on_at_once() {
    // A port on which nobody listens.
    let base = format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let mut events = Vec::new();
    let error = fetch(&options(ProviderName::Vultr, &base), &nothing(), &mut events).unwrap_err();
    assert!(error.to_string().starts_with("no datasource found; vultr: no answer from `"), "{error}");
    let skipped = |event: &Event| matches!(event, Event::End { outcome: Outcome::Skipped(_), step } if step == "datasource-vultr");
    assert!(events.iter().any(skipped), "{events:?}");
}

#[test]
fn a_likely_service_is_asked_again_and_an_unlikely_one_once() {
    for (vendor, expected) in [("DigitalOcean", 3), ("", 1)] {
        let service = Service::start(|_| status(503));
        let hints = Hints { dmi: Dmi { sys_vendor: vendor.into(), ..Dmi::default() }, ..Hints::default() };
        let options = Options { attempts: 3, ..options(ProviderName::DigitalOcean, &service.base) };
        let why = reason(&options, &hints);
        assert!(why.contains("answers with status 503"), "{why}");
        assert_eq!(service.asked().len(), expected);
    }
    let count = AtomicUsize::new(0);
    let service = Service::start(move |asked| match (count.fetch_add(1, Ordering::SeqCst), asked.path.as_str()) {
        (0, _) => status(500),
        (_, "/metadata/v1/id") => ok("7"),
        _ => status(404),
    });
    let dmi = Dmi { sys_vendor: "DigitalOcean".into(), ..Dmi::default() };
    let options = Options { attempts: 2, ..options(ProviderName::DigitalOcean, &service.base) };
    let found = fetch(&options, &Hints { dmi, ..Hints::default() }, &mut Vec::new()).unwrap();
    assert_eq!(found.instance_id.as_deref(), Some("7"));
}

#[test]
fn what_is_too_large_cut_off_or_of_another_kind_is_refused() {
    let user_data = |reply: Reply| {
        Service::start(move |asked| match asked.path.as_str() {
            "/metadata/v1/id" => ok("7"),
            "/metadata/v1/user-data" => reply.clone(),
            _ => status(404),
        })
    };
    for (reply, expected) in [
        (ok(vec![b'#'; (4 << 20) + 1]), "has more than 4194304 bytes"),
        (Reply { length: Some(100), ..ok("short") }, "no answer from"),
        (status(500), "answers with status 500"),
        (
            Reply { headers: vec![("Location".into(), "http://127.0.0.1:1/".into())], ..status(302) },
            "answers with status 302",
        ),
    ] {
        let service = user_data(reply);
        let why = reason(&options(ProviderName::DigitalOcean, &service.base), &nothing());
        assert!(why.contains(expected), "{why}");
    }
    // More than was announced is not read.
    let service = user_data(Reply { length: Some(5), ..ok("short and more") });
    let found = fetch(&options(ProviderName::DigitalOcean, &service.base), &nothing(), &mut Vec::new()).unwrap();
    assert_eq!(found.user_data.unwrap().reveal(), b"short");

    let service = Service::fixed(&[("/metadata/v1/id", &b"\xff\xfe"[..])]);
    let why = reason(&options(ProviderName::DigitalOcean, &service.base), &nothing());
    assert!(why.ends_with("/metadata/v1/id` is not UTF-8 text"), "{why}");
    let service = Service::fixed(&[("/metadata", "{")]);
    let why = reason(&options(ProviderName::Packet, &service.base), &nothing());
    assert!(why.ends_with("/metadata` is not JSON"), "{why}");
    let service = Service::fixed(&[("/openstack/latest/meta_data.json", "{}")]);
    let why = reason(&options(ProviderName::OpenStack, &service.base), &nothing());
    assert_eq!(why, "openstack does not say its uuid");
}

#[test]
fn one_that_answers_everything_with_404_is_not_taken_for_a_cloud() {
    let service = Service::start(|_| status(404));
    for provider in [ProviderName::Aws, ProviderName::Gcp, ProviderName::Vultr, ProviderName::Scaleway] {
        let why = reason(&options(provider, &service.base), &nothing());
        assert!(why.contains("does not say its"), "{provider}: {why}");
    }
}

#[test]
fn a_token_is_not_carried_elsewhere_by_a_redirect() {
    let other = Service::start(|_| ok("i-1"));
    let target = other.base.clone();
    let service = Service::start(move |asked| match asked.method.as_str() {
        "PUT" => ok("token-1"),
        _ => Reply { headers: vec![("Location".into(), format!("{target}/x"))], ..status(302) },
    });
    let why = reason(&options(ProviderName::Aws, &service.base), &nothing());
    assert!(why.contains("status 302"), "{why}");
    assert!(other.asked().is_empty());
}

#[test]
fn an_error_shows_no_query() {
    for seed in
        ["http://[::1/?token=hunter2", "http://127.0.0.1:1/?token=hunter2", "ftp://a/?token=hunter2", "?token=hunter2"]
    {
        let mut hints = Hints::default();
        hints.cmdline(&format!("ds=nocloud;s={seed}"));
        let mut events = Vec::new();
        let options = Options { bases: [].into(), ..options(ProviderName::Aws, "http://127.0.0.1:1") };
        let error = fetch(&options, &hints, &mut events).unwrap_err();
        assert!(!format!("{error} {error:?} {events:?} {hints:?}").contains("hunter2"), "{error} {error:?} {events:?}");
    }
}

#[test]
fn one_deadline_holds_for_all() {
    let service = Service::start(|_| Reply { silence: Duration::from_secs(30), ..ok("x") });
    let wanted = [ProviderName::OpenStack, ProviderName::Metaldata, ProviderName::Packet];
    let bases = wanted.iter().map(|provider| (*provider, service.base.clone())).collect();
    let options = Options {
        bases,
        answer: Duration::from_millis(400),
        deadline: Duration::from_millis(600),
        ..Options::new(wanted)
    };
    let begin = Instant::now();
    let why = reason(&options, &nothing());
    assert!(why.contains("there was no time left to ask"), "{why}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn asked_at_once_the_first_in_order_wins_not_the_first_in_time() {
    let slow = Service::start(|asked| match asked.path.as_str() {
        "/get/meta/hostname" => Reply { silence: Duration::from_millis(200), ..ok("slow") },
        _ => status(404),
    });
    let quick = Service::fixed(&[("/metadata", "{\"id\": \"quick\"}")]);
    let silent = Service::start(|_| Reply { silence: Duration::from_secs(30), ..ok("x") });
    let wanted = [ProviderName::Metaldata, ProviderName::Packet, ProviderName::OpenStack];
    let bases = [slow.base.clone(), quick.base.clone(), silent.base.clone()];
    let options = Options {
        bases: wanted.into_iter().zip(bases).collect(),
        answer: Duration::from_secs(2),
        parallel: true,
        ..Options::new(wanted)
    };
    let begin = Instant::now();
    let mut events = Vec::new();
    let found = fetch(&options, &nothing(), &mut events).unwrap();
    assert_eq!((found.provider, found.hostname.as_deref()), (ProviderName::Metaldata, Some("slow")));
    // The silent one is not waited for.
    assert!(begin.elapsed() < Duration::from_millis(1500), "{:?}", begin.elapsed());
    assert!(events.contains(&Event::skipped("datasource-packet", "metaldata comes before it")), "{events:?}");

    let gone = Service::start(|_| status(404));
    let bases = [gone.base.clone(), quick.base.clone(), silent.base.clone()];
    let options = Options { bases: wanted.into_iter().zip(bases).collect(), ..options };
    assert_eq!(fetch(&options, &nothing(), &mut Vec::new()).unwrap().provider, ProviderName::Packet);
    let bases = [gone.base.clone(), gone.base.clone(), gone.base.clone()];
    let options = Options { bases: wanted.into_iter().zip(bases).collect(), ..options };
    assert!(
        matches!(fetch(&options, &nothing(), &mut Vec::new()), Err(Error::NothingFound { tried }) if tried.len() == 3)
    );
}

#[test]
fn an_unlikely_one_is_not_asked_unless_all_are() {
    let service = Service::fixed(&[("/metadata/v1/id", "7")]);
    let hints = Hints { dmi: Dmi { sys_vendor: "LENOVO".into(), ..Dmi::default() }, ..Hints::default() };
    let wanted = [ProviderName::DigitalOcean, ProviderName::Vultr];
    let bases = wanted.iter().map(|provider| (*provider, service.base.clone())).collect();
    let options = Options { bases, answer: Duration::from_millis(500), ..Options::new(wanted) };
    assert_eq!(reason(&options, &hints), "this machine shows no sign of it; this machine shows no sign of it");
    assert!(service.asked().is_empty());
    let all = Options { parallel: true, ..options };
    assert_eq!(fetch(&all, &hints, &mut Vec::new()).unwrap().provider, ProviderName::DigitalOcean);
}
