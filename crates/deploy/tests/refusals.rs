//! Upgrades that do not happen: refused before anything is written, or stopped and taken back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod site;

use kairn_lifecycle::refusal::Refusal;
use kairn_report::Diagnostic as _;
use site::*;

#[test]
fn a_refused_upgrade_has_written_nothing() {
    let site = Site::new();
    site.upgrade(2, PLENTY, UpgradeOptions::default()).unwrap();
    let before = site.content();
    let refused = site.upgrade(3, PLENTY, UpgradeOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::OnTrial { sequence: Sequence(2), runs: false })), "{refused}");
    assert_eq!(site.content(), before);
    assert_eq!((refused.kind().exit_code(), refused.hints().len()), (2, 1));
}

#[test]
fn an_image_that_turns_out_wrong_after_unpacking_is_taken_back_to_the_last_byte() {
    for (image, word) in
        [(99_u8, "not a Kairn image"), (98, "this machine is"), (97, "holds no kernel"), (1, "active already")]
    {
        let site = Site::new();
        let before: Vec<_> = site.content();
        let refused = site.upgrade(image, PLENTY, UpgradeOptions::default()).unwrap_err();
        let Error::Step { source, .. } = &refused else { panic!("{refused}") };
        assert!(source.to_string().contains(word), "{source}");
        assert!(!refused.hints().is_empty() && [2, 4].contains(&refused.kind().exit_code()), "{refused}");
        assert_eq!(kept(site.content()), kept(before));
    }
}

/// What counts of all files: only journal and results of stages say that something was tried, and downloads may serve a next try.
fn kept(content: Vec<(PathBuf, Vec<u8>)>) -> Vec<(PathBuf, Vec<u8>)> {
    let new = ["kairn/journal", "kairn/staging", "kairn/stages"];
    content.into_iter().filter(|(path, _)| !new.iter().any(|name| path.to_string_lossy().contains(name))).collect()
}

/// A machine of which one partition takes no more bytes.
struct Full {
    machine: RealMachine,
    partition: PathBuf,
}

impl Machine for Full {
    fn apply(&mut self, effect: &Effect) -> Result<(), kairn_host::Error> {
        match effect {
            Effect::CopyFile { to: path, .. } | Effect::WriteFile { path, .. } | Effect::CreateFile { path, .. }
                if path.starts_with(&self.partition) =>
            {
                Err(kairn_host::Error::path("write", path)(std::io::ErrorKind::StorageFull.into()))
            }
            _ => self.machine.apply(effect),
        }
    }
}

#[test]
fn a_partition_that_fills_up_stops_an_upgrade_which_is_taken_back_and_says_where_space_is_needed() {
    for name in ["esp", "state", "recovery"] {
        let site = Site::new();
        let before = site.content();
        let partition = site.path(name);
        let mut machine = Full { machine: RealMachine::at(Path::new("/"), Runner::default()), partition };
        let role = Role::Deployment { sequence: Sequence(1) };
        let options = UpgradeOptions { recovery: name == "recovery", force: false };
        let error = site.with(&mut machine, role, |node| {
            upgrade::upgrade(node, &mut Image(2), &mut Seal, &mut site.stages(), options, &mut Vec::new()).unwrap_err()
        });
        assert!(matches!(error, Error::Step { .. }), "{name}: {error:?}");
        assert_eq!(error.kind().exit_code(), 4);
        let hint = error.hints().remove(0);
        assert!(hint.starts_with("free space") && hint.contains(&format!("/{name}/")), "{name}: {hint}");
        assert_eq!(kept(site.content()), kept(before), "{name}");
        site.upgrade(2, PLENTY, options).unwrap();
        site.assert_bootable(name);
    }
}

#[test]
fn an_image_that_unpacks_to_more_than_state_holds_leaves_room_to_say_so_and_to_try_again() {
    struct Large;
    impl ImageSource for Large {
        fn facts(&mut self, wanted: Architecture, state: &Path) -> Result<ImageFacts, Error> {
            Image(3).facts(wanted, state)
        }
        fn is_fetched(&mut self, _: &Path) -> Result<bool, Error> {
            Ok(true)
        }
        fn fetch(&mut self, _: &Path, _: &mut dyn Machine, _: &mut dyn Sink) -> Result<(), Error> {
            Ok(())
        }
        fn unpack(&mut self, _: &Path, tree: &Path, _: &mut dyn Machine, _: &mut dyn Sink) -> Result<Unpacked, Error> {
            for n in 0.. {
                let path = tree.join(format!("file{n}"));
                // Down to the last block, whatever is left of a larger one.
                for size in [1 << 20, 1 << 12] {
                    std::fs::write(&path, vec![1; size])
                        .or_else(|error| if size > 1 << 12 { Ok(()) } else { Err(error) })
                        .map_err(kairn_host::Error::path("unpack", &path))?;
                }
            }
            Ok(Unpacked::Tree)
        }
    }
    let site = Site::new();
    let (state, copy) = (site.path("state"), site.path("copy"));
    let mounted = kairn_host::mount::private_namespace().and_then(|()| {
        std::fs::rename(&state, &copy).unwrap();
        std::fs::create_dir(&state).unwrap();
        kairn_host::mount::mount_tmpfs(&state, 0o755, Some("80m"))
    });
    if let Err(error) = mounted {
        eprintln!("skipped: no file system of its own ({error})");
        return;
    }
    let copied = std::process::Command::new("cp").args(["-a", "--no-target-directory"]).arg(&copy).arg(&state).status();
    assert!(copied.unwrap().success());
    std::fs::remove_dir_all(&copy).unwrap();
    let error = site.upgrade_from(&mut Large, PLENTY, UpgradeOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Step { step, .. } if step == "unpack"), "{error:?}");
    assert!(error.hints().iter().any(|hint| hint.starts_with("free space")), "{:?}", error.hints());
    assert_eq!(std::fs::read_dir(state.join(paths::STAGING)).unwrap().count(), 0);
    site.upgrade(2, PLENTY, UpgradeOptions::default()).unwrap();
    assert_eq!(site.facts().selection().next_boot().unwrap().name, "kairn-2+2.conf");
    kairn_host::mount::unmount(&state).unwrap();
}

#[test]
fn a_registry_that_is_down_changes_nothing_and_is_named() {
    let site = Site::new();
    let before = site.content();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let source: Source = format!("oci:{address}/os:1").parse().unwrap();
    let mut source = kairn_deploy::upgrade_source::open(&source, std::slice::from_ref(&address)).unwrap();
    let error = site.upgrade_from(&mut *source, PLENTY, UpgradeOptions::default()).unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");
    assert_eq!((error.kind().exit_code(), error.hints().len()), (4, 2));
    assert_eq!(site.content(), before);
}

#[test]
fn a_release_damaged_on_its_way_is_found_before_anything_refers_to_it() {
    struct Bad;
    impl Sealer for Bad {
        fn seal(&mut self, _: &Path, out: &Path) -> Result<(), Error> {
            write_release(out, 2);
            let path = out.join("root.erofs");
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[17] ^= 1;
            std::fs::write(path, bytes).unwrap();
            Ok(())
        }
    }
    let site = Site::new();
    let mut machine = RealMachine::at(Path::new("/"), Runner::default());
    let role = Role::Deployment { sequence: Sequence(1) };
    let error = site.with(&mut machine, role, |node| {
        upgrade::upgrade(node, &mut Image(2), &mut Bad, &mut site.stages(), UpgradeOptions::default(), &mut Vec::new())
            .unwrap_err()
    });
    let Error::Step { step, source, .. } = &error else { panic!("{error}") };
    assert_eq!(step, "verify");
    assert!(matches!(**source, Error::Digest { .. }));
    assert_eq!(site.facts().releases.len(), 1);
}

#[test]
fn a_second_command_is_told_who_holds_the_lock() {
    let site = Site::new();
    let mut machine = RealMachine::at(Path::new("/"), Runner::default());
    let role = Role::Deployment { sequence: Sequence(1) };
    site.with(&mut machine, role, |node| {
        let lock = node.lock("kairn install").unwrap();
        let error = upgrade::upgrade(
            node,
            &mut Image(2),
            &mut Seal,
            &mut site.stages(),
            UpgradeOptions::default(),
            &mut Vec::new(),
        )
        .unwrap_err();
        assert!(error.to_string().contains("`kairn install`, process"), "{error}");
        assert_eq!((error.kind().exit_code(), error.hints().len()), (2, 1));
        drop(lock);
    });
}

/// Debian's docker-registry, killed at the end.
struct DockerRegistry(std::process::Child);

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn an_upgrade_from_a_registry_refuses_a_plain_image_and_takes_a_converted_one() {
    let site = Site::new();
    let dir = tempfile::tempdir().unwrap();
    let program = std::env::var("KAIRN_DOCKER_REGISTRY").unwrap_or_else(|_| "docker-registry".to_owned());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = dir.path().join("registry.yml");
    let root = dir.path().join("registry");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
        root.display()
    );
    std::fs::write(&config, text).unwrap();
    let null = std::process::Stdio::null;
    let child = std::process::Command::new(&program).arg("serve").arg(&config).stdout(null()).stderr(null()).spawn();
    let Ok(child) = child else {
        eprintln!("skipped: `{program}` is not installed");
        return;
    };
    let _killed = DockerRegistry(child);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < deadline, "docker-registry did not listen within 60 s");
        std::thread::yield_now();
    }
    let address = format!("127.0.0.1:{port}");
    let registry = kairn_oci::Registry::new(&kairn_oci::Options {
        insecure: vec![address.clone()],
        ..kairn_oci::Options::default()
    })
    .unwrap();
    let push = |n: u8, converted: bool, labelled: bool| {
        let tree = dir.path().join(format!("tree-{n}"));
        std::fs::create_dir_all(&tree).unwrap();
        if converted {
            let layers = dir.path().join(format!("staging-{n}"));
            std::fs::create_dir_all(layers.join("layers")).unwrap();
            std::fs::write(layers.join("layers/blob"), [n]).unwrap();
            let mut machine = RealMachine::at(Path::new("/"), Runner::default());
            Image(n).unpack(&layers, &tree, &mut machine, &mut Vec::new()).unwrap();
        }
        let layout = kairn_oci::Layout::create(&dir.path().join(format!("layout-{n}"))).unwrap();
        let label = labelled.then(|| (kairn_oci::CONVERTED_LABEL.to_owned(), "6.1".to_owned()));
        let options = kairn_oci::PackOptions {
            architecture: Architecture::of_this_program().unwrap(),
            epoch: 1,
            labels: label.into_iter().collect(),
            name: None,
        };
        let image = kairn_oci::pack(&tree, &layout, &options, &mut Vec::new()).unwrap();
        registry.push(&layout, &image, &format!("{address}/os:{n}"), &mut Vec::new()).unwrap();
    };
    let open = |n: u8| {
        let source: Source = format!("oci:{address}/os:{n}").parse().unwrap();
        kairn_deploy::upgrade_source::open(&source, std::slice::from_ref(&address)).unwrap()
    };
    push(50, false, false);
    let before = site.content();
    let refused = site.upgrade_from(&mut *open(50), PLENTY, UpgradeOptions::default()).unwrap_err();
    assert!(matches!(&refused, Error::Refused(Refusal::NotConverted { .. })), "{refused}");
    assert_eq!(site.content(), before);
    for (n, labelled) in [(2, false), (3, true)] {
        push(n, true, labelled);
        site.upgrade_from(&mut *open(n), PLENTY, UpgradeOptions::default()).unwrap();
        let esp = Esp::read(&site.path("esp")).unwrap();
        let mut machine = RealMachine::at(Path::new("/"), Runner::default());
        apply(&mut machine, &esp.bless(Sequence(u32::from(n))).unwrap()).unwrap();
        // The same image again is what is active already.
        let again = site.upgrade_from(&mut *open(n), PLENTY, UpgradeOptions::default()).unwrap_err();
        assert!(matches!(&again, Error::Refused(Refusal::SameImage { .. })), "{again}");
    }
    site.assert_bootable("after two upgrades from a registry");
}
