use super::*;
use kairn_report::Silent;
use proptest::prelude::*;
use std::fs;

enum Put<'a> {
    File(&'a str, &'a str),
    Dir(&'a str),
    Symlink(&'a str, &'a str),
    Link(&'a str, &'a str),
}

fn layer(layout: &Layout, entries: &[Put<'_>]) -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_mtime(1_000);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_size(0);
        // Raw names: the builder refuses what a hostile layer would hold.
        let name =
            |header: &mut tar::Header, path: &str| header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        match entry {
            Put::File(path, content) => {
                name(&mut header, path);
                header.set_size(content.len() as u64);
                header.set_entry_type(EntryType::Regular);
                header.set_cksum();
                tar.append(&header, content.as_bytes()).unwrap();
                continue;
            }
            Put::Dir(path) => {
                name(&mut header, path);
                header.set_entry_type(EntryType::Directory);
            }
            Put::Symlink(path, target) | Put::Link(path, target) => {
                name(&mut header, path);
                header.set_entry_type(if matches!(entry, Put::Link(..)) {
                    EntryType::Link
                } else {
                    EntryType::Symlink
                });
                header.set_link_name_literal(target).unwrap();
            }
        }
        header.set_cksum();
        tar.append(&header, io::empty()).unwrap();
    }
    let bytes = tar.into_inner().unwrap();
    let digest = layout.put(&bytes).unwrap();
    let media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
    Layer { digest, size: bytes.len() as u64, diff_id: digest, media_type }
}

fn unpack(dir: &Path, layers: &[&[Put<'_>]]) -> Result<PathBuf, Error> {
    let layout = Layout::create(&dir.join("layout")).unwrap();
    let layers = layers.iter().map(|entries| layer(&layout, entries)).collect();
    let image = Image { digest: Digest([0; 32]), config: (Digest([0; 32]), 0), architecture: "amd64".into(), layers };
    let out = dir.join("out");
    fs::create_dir_all(&out).unwrap();
    image.unpack(&layout, &out, &mut Silent).map(|_| out)
}

#[test]
fn whiteouts_remove_what_lower_layers_made_and_spare_what_their_own_layer_makes() {
    let dir = tempfile::tempdir().unwrap();
    let lower =
        [Put::Dir("d"), Put::File("d/old", "1"), Put::File("gone", "1"), Put::Dir("tree"), Put::File("tree/x", "1")];
    let upper = [
        Put::File("d/new", "2"),
        Put::File("d/.wh..wh..opq", ""),
        Put::File(".wh.gone", ""),
        Put::File(".wh.tree", ""),
    ];
    let out = unpack(dir.path(), &[&lower, &upper]).unwrap();
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&out), ["d"]);
    assert_eq!(names(&out.join("d")), ["new"]);
}

#[test]
fn an_opaque_directory_loses_what_lower_layers_put_below_it_however_deep() {
    let dir = tempfile::tempdir().unwrap();
    let lower = [Put::Dir("d"), Put::Dir("d/sub"), Put::File("d/sub/old", "1"), Put::File("d/sub/kept", "1")];
    let upper = [Put::File("d/sub/kept", "2"), Put::File("d/.wh..wh..opq", ""), Put::File("d/.wh.sub", "")];
    let out = unpack(dir.path(), &[&lower, &upper]).unwrap();
    assert!(!out.join("d/sub/old").exists());
    assert_eq!(fs::read_to_string(out.join("d/sub/kept")).unwrap(), "2");
}

#[test]
fn a_layer_that_was_damaged_on_the_disk_loses_its_name_and_is_fetched_anew_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(&dir.path().join("layout")).unwrap();
    let damaged = layer(&layout, &[Put::File("a", "b")]);
    let mut bytes = fs::read(layout.blob(&damaged.digest)).unwrap();
    bytes[600] ^= 1;
    fs::write(layout.blob(&damaged.digest), bytes).unwrap();
    let digest = damaged.digest;
    let image = Image { digest, config: (digest, 0), architecture: "amd64".into(), layers: vec![damaged] };
    let error = image.unpack(&layout, dir.path(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::Digest { expected, .. } if expected == digest), "{error}");
    assert!(!layout.has(&digest, image.layers[0].size));
}

#[test]
fn an_entry_replaces_one_of_another_kind_and_parents_may_be_links_inside_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let lower =
        [Put::Dir("usr"), Put::Dir("usr/bin"), Put::Symlink("bin", "/usr/bin"), Put::Dir("x"), Put::File("x/y", "")];
    let upper = [Put::File("bin/tool", "t"), Put::File("x", "file now"), Put::Link("usr/alias", "bin/tool")];
    let out = unpack(dir.path(), &[&lower, &upper]).unwrap();
    assert_eq!(fs::read_to_string(out.join("usr/bin/tool")).unwrap(), "t");
    assert_eq!(fs::read_to_string(out.join("usr/alias")).unwrap(), "t");
    assert_eq!(fs::read_to_string(out.join("x")).unwrap(), "file now");
}

#[test]
fn nothing_outside_the_directory_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("kept"), "").unwrap();
    let absolute = victim.to_str().unwrap();
    let cases: [&[Put<'_>]; 7] = [
        &[Put::File("../victim/a", "evil")],
        &[Put::Symlink("link", absolute), Put::File("link/a", "evil")],
        &[Put::Symlink("link", "../victim"), Put::File("link/a", "evil")],
        &[Put::Symlink("link", absolute), Put::File("link/.wh..wh..opq", "")],
        &[Put::File(".wh...", "")],
        &[Put::File(".wh..", "")],
        &[Put::Dir("d"), Put::File("d/.wh...", "")],
    ];
    for case in cases {
        // Each either fails or lands inside; both are fine as long as the victim stays as it is.
        if let Err(error) = unpack(dir.path(), &[case]) {
            assert!(matches!(error, Error::Entry { .. }), "{error}");
        }
        assert!(victim.join("kept").exists());
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
        fs::remove_dir_all(dir.path().join("out")).unwrap();
    }
}

#[test]
fn a_layer_whose_diff_id_is_wrong_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(&dir.path().join("layout")).unwrap();
    let mut bad = layer(&layout, &[Put::File("a", "b")]);
    bad.diff_id = Digest([1; 32]);
    let image = Image { digest: bad.digest, config: (bad.digest, 0), architecture: "amd64".into(), layers: vec![bad] };
    let error = image.unpack(&layout, dir.path(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }));
}

/// A layer with one record of a kind and a size before its only file.
fn layer_with_record(layout: &Layout, kind: EntryType, record: &[u8]) -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind: EntryType, size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path("a").unwrap();
        header.set_mode(0o644);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mtime(1_000);
        header.set_size(size as u64);
        header.set_cksum();
        header
    };
    tar.append(&header(kind, record.len()), record).unwrap();
    tar.append(&header(EntryType::Regular, 1), &b"x"[..]).unwrap();
    let bytes = zstd::encode_all(tar.into_inner().unwrap().as_slice(), 1).unwrap();
    let plain = zstd::decode_all(bytes.as_slice()).unwrap();
    let media_type = "application/vnd.oci.image.layer.v1.tar+zstd".to_owned();
    Layer { digest: layout.put(&bytes).unwrap(), size: bytes.len() as u64, diff_id: Digest::of(&plain), media_type }
}

#[test]
fn a_layer_whose_descriptions_would_fill_the_memory_is_refused_by_the_entry_and_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(&dir.path().join("layout")).unwrap();
    let unpack = |kind: EntryType, record: &[u8]| {
        let layers = vec![layer_with_record(&layout, kind, record)];
        let image =
            Image { digest: layers[0].digest, config: (layers[0].digest, 0), architecture: "amd64".into(), layers };
        let out = tempfile::tempdir().unwrap();
        image
            .unpack(&layout, out.path(), &mut Silent)
            .map(|done| (done.entries, fs::read_dir(out.path()).unwrap().count()))
    };
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let error = unpack(kind, &vec![b'a'; 64 << 20]).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("layer ") && text.contains("the first entry has more than 1048576 bytes"), "{text}");
    }
    // A comment for the whole archive says nothing about a file, and is passed over.
    assert_eq!(unpack(EntryType::XGlobalHeader, b"13 comment=a\n").unwrap(), (1, 1));
    assert_eq!(unpack(EntryType::XGlobalHeader, &vec![b'a'; 64 << 20]).unwrap(), (1, 1));
    assert_eq!(unpack(EntryType::GNULongName, "n".repeat(200).as_bytes()).unwrap(), (1, 1));
}

proptest! {
    #[test]
    fn arbitrary_bytes_as_a_layer_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("layout")).unwrap();
        let digest = layout.put(&bytes).unwrap();
        for kind in ["tar", "tar+gzip", "tar+zstd"] {
            let layer = Layer { digest, size: bytes.len() as u64, diff_id: digest, media_type: format!("application/vnd.oci.image.layer.v1.{kind}") };
            let image = Image { digest, config: (digest, 0), architecture: "amd64".into(), layers: vec![layer] };
            let out = tempfile::tempdir().unwrap();
            drop(image.unpack(&layout, out.path(), &mut Silent));
        }
    }
}
