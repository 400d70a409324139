//! The certificates that the machine trusts.
//!
//! What is trusted is made by the distribution's own program out of files in a directory of its own. That directory may outlive a
//! reboot while what the program makes does not, so the program runs whenever what it makes lacks a certificate.

use crate::files::write_if_other;
use crate::{Context, Error, tool};
use kairn_config::Trust;
use kairn_host::files;
use kairn_report::Sink;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long the distribution's program may take; it makes a link for each of some hundred certificates.
const DEADLINE: Duration = Duration::from_secs(120);

/// How a distribution is told whom to trust.
struct Store {
    /// The program.
    program: &'static str,
    /// Its arguments.
    args: &'static [&'static str],
    /// Where it finds further certificates.
    anchors: &'static str,
    /// Where it puts all of them.
    bundle: &'static str,
    /// Where it is told to leave out those of the distribution: a list of names, in which `!` means that one is not trusted.
    list: Option<&'static str>,
}

/// Fedora, SUSE, then Debian and Alpine. SUSE has the program of the last, too.
const STORES: [Store; 3] = [
    Store {
        program: "update-ca-trust",
        args: &["extract"],
        anchors: "/etc/pki/ca-trust/source/anchors",
        bundle: "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        list: None,
    },
    Store {
        program: "update-ca-certificates",
        args: &[],
        anchors: "/etc/pki/trust/anchors",
        bundle: "/var/lib/ca-certificates/ca-bundle.pem",
        list: None,
    },
    Store {
        program: "update-ca-certificates",
        args: &[],
        anchors: "/usr/local/share/ca-certificates",
        bundle: "/etc/ssl/certs/ca-certificates.crt",
        list: Some("/etc/ca-certificates.conf"),
    },
];

/// Trusts certificates; says whether anything changed. `source` names the configuration: what it asked for before and no longer
/// does is not trusted any more.
pub fn set(context: &Context, trust: &Trust, source: &str, sink: &mut dyn Sink) -> Result<bool, Error> {
    let found = STORES.iter().find(|store| {
        // SUSE and Debian differ in the directory.
        let own = store.anchors.starts_with("/etc/pki/trust") && !context.at(store.anchors.as_ref()).is_dir();
        tool::find(context, store.program).is_some() && !own
    });
    let Some(store) = found else {
        let hint = "the image needs the distribution's package `ca-certificates`";
        return Err(Error::refused("neither update-ca-certificates nor update-ca-trust is there", hint));
    };
    let mut changed = false;
    if trust.remove_defaults {
        let Some(list) = store.list else {
            let hint = "the certificates lie in /usr, which is part of the image: build it without them";
            return Err(Error::refused("`remove_defaults` has no meaning on this distribution", hint));
        };
        changed |= distrust(context, list)?;
    }
    changed |= anchor(context, trust, store, source)?;
    let bundle = files::read_text_if_any(&context.at(store.bundle.as_ref()))?.unwrap_or_default();
    let lacks = trust.trusted.iter().any(|certificate| !holds(&bundle, certificate));
    if changed || lacks {
        tool::run(
            &tool::program(context, store.program)?.args(store.args.iter().copied()).deadline(DEADLINE),
            context,
            sink,
        )?;
        changed = true;
    }
    Ok(changed)
}

/// Puts the certificates where the program finds them, and takes away former ones of the same configuration.
fn anchor(context: &Context, trust: &Trust, store: &Store, source: &str) -> Result<bool, Error> {
    let digest = files::sha256_of(&mut source.as_bytes()).map_err(Error::path("read", source))?;
    let stem = format!("kairn-{}-", digest.get(..8).unwrap_or(&digest));
    let dir = context.at(store.anchors.as_ref());
    let mut changed = false;
    let mut wanted = Vec::new();
    for (index, certificate) in trust.trusted.iter().enumerate() {
        let name = format!("{stem}{}.crt", index + 1);
        let path = dir.join(&name);
        changed |= write_if_other(&path, certificate.as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())?;
        wanted.push(name);
    }
    for name in files::names(&dir)? {
        let name = name.to_string_lossy();
        if name.starts_with(&stem) && !wanted.contains(&name.clone().into_owned()) {
            files::remove_file(&dir.join(name.as_ref()))?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Puts `!` before each name of a list that has none.
fn distrust(context: &Context, list: &str) -> Result<bool, Error> {
    let path = context.at(Path::new(list));
    let Some(before) = files::read_text_if_any(&path)? else { return Ok(false) };
    let mut text = String::new();
    for line in before.lines() {
        if !line.is_empty() && !line.starts_with(['#', '!']) {
            text.push('!');
        }
        text.push_str(line);
        text.push('\n');
    }
    write_if_other(&path, text.as_bytes(), 0o644, fs::metadata(&path).ok().as_ref())
}

/// Says whether a bundle has the first certificate of a text, however its lines are broken.
fn holds(bundle: &str, certificate: &str) -> bool {
    let flat = |text: &str| text.split_whitespace().collect::<String>();
    let body = certificate.split("-----BEGIN CERTIFICATE-----").nth(1).unwrap_or_default();
    let body = flat(body.split("-----END").next().unwrap_or_default());
    flat(bundle).contains(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    const TWO: &str = "-----BEGIN CERTIFICATE-----\nMAEA\n-----END CERTIFICATE-----\n";

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn certificates_lie_where_the_program_looks_and_former_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let here = context(dir.path());
        let store = &STORES[2];
        let both = Trust { remove_defaults: false, trusted: vec![ONE.into(), TWO.into()] };
        let one = Trust { remove_defaults: false, trusted: vec![TWO.into()] };
        write(dir.path(), "usr/local/share/ca-certificates/mine.crt", ONE);
        assert!(anchor(&here, &both, store, "a.yaml").unwrap());
        assert!(!anchor(&here, &both, store, "a.yaml").unwrap());
        assert!(anchor(&here, &one, store, "b.yaml").unwrap());
        assert!(anchor(&here, &one, store, "a.yaml").unwrap());
        let names = files::names(&dir.path().join("usr/local/share/ca-certificates")).unwrap();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names.contains(&"mine.crt".into()));
    }

    #[test]
    fn nothing_runs_while_the_bundle_has_all_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let here = context(dir.path());
        let trust = Trust { remove_defaults: false, trusted: vec![ONE.into()] };
        let mut events = Vec::new();
        assert!(matches!(set(&here, &trust, "a", &mut events), Err(Error::Refused { .. })));
        write(dir.path(), "usr/sbin/update-ca-certificates", "");
        write(dir.path(), "etc/ssl/certs/ca-certificates.crt", &format!("{TWO}{ONE}"));
        anchor(&here, &trust, &STORES[2], "a").unwrap();
        // The program of this root cannot run, so that any attempt would fail.
        assert!(!set(&here, &trust, "a", &mut events).unwrap());
        write(dir.path(), "etc/ssl/certs/ca-certificates.crt", TWO);
        assert!(set(&here, &trust, "a", &mut events).is_err());
    }

    #[test]
    fn the_defaults_are_struck_from_debians_list_once() {
        let dir = tempfile::tempdir().unwrap();
        let here = context(dir.path());
        write(dir.path(), "etc/ca-certificates.conf", "# list\nmozilla/A.crt\n!mozilla/B.crt\n\n");
        assert!(distrust(&here, "/etc/ca-certificates.conf").unwrap());
        assert!(!distrust(&here, "/etc/ca-certificates.conf").unwrap());
        let text = fs::read_to_string(dir.path().join("etc/ca-certificates.conf")).unwrap();
        assert_eq!(text, "# list\n!mozilla/A.crt\n!mozilla/B.crt\n\n");
    }
}
