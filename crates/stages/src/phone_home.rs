//! Tells an address that the machine is up, and who it is.

use crate::fetch::{self, Patience, Request};
use crate::{Context, Effect, Error, instance};
use kairn_config::{PhoneHome, PhoneHomeFact};
use kairn_host::files;
use kairn_report::{Secret, Sink};
use std::path::Path;
use url::form_urlencoded::Serializer;

/// Bytes of the answer that are read; nobody looks at them.
const ANSWER: u64 = 1 << 20;
/// How many of the usual pauses are between two tries: 3 s, as long as cloud-init waits.
const PAUSES: u32 = 3;
/// What stands for a fact that the machine does not have, as in cloud-init.
const UNKNOWN: &str = "N/A";

/// Posts what is wanted. The deadline of fetching is that of all tries together.
pub fn tell(context: &Context, wanted: &PhoneHome, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let instance = instance::current(context)?;
    let instance = instance.as_deref().unwrap_or(UNKNOWN);
    let mut form = Serializer::new(String::new());
    for fact in &wanted.facts {
        let value = match fact {
            PhoneHomeFact::InstanceId => Some(instance.to_owned()),
            PhoneHomeFact::Hostname => hostname(context)?,
            PhoneHomeFact::Fqdn => fqdn(context)?,
            PhoneHomeFact::HostKey(kind) => line(context, &format!("/etc/ssh/ssh_host_{kind}_key.pub"))?,
        };
        form.append_pair(&fact.name(), value.as_deref().unwrap_or(UNKNOWN));
    }
    let url = wanted.url.reveal().replace("${INSTANCE_ID}", instance).replace("$INSTANCE_ID", instance);
    let mut request = Request::new(url, ANSWER, context.fetch_deadline);
    request.form = Some(Secret::new(form.finish()));
    let patience = Patience { tries: wanted.tries, pause: context.patience.pause * PAUSES };
    fetch::bytes(&*context.fetch, &request, patience, sink)?;
    Ok(Effect::Changed)
}

/// The first line of a file that is no comment.
fn line(context: &Context, path: &str) -> Result<Option<String>, Error> {
    let text = files::read_text_if_any(&context.at(Path::new(path)))?.unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    Ok(lines.find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned))
}

fn hostname(context: &Context) -> Result<Option<String>, Error> {
    line(context, "/etc/hostname")
}

/// The first of the names that `/etc/hosts` has for the machine itself is the one with its domain (hosts(5)).
fn fqdn(context: &Context) -> Result<Option<String>, Error> {
    let Some(own) = hostname(context)? else { return Ok(None) };
    let hosts = files::read_text_if_any(&context.at(Path::new("/etc/hosts")))?.unwrap_or_default();
    let names = hosts.lines().filter_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace().skip(1);
        let first = words.next()?;
        (first == own || words.any(|name| name == own)).then_some(first)
    });
    Ok(Some(names.map(str::to_owned).find(|name| name.contains('.')).unwrap_or(own)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use crate::fetch::{Answer, Fetch, FetchError};
    use crate::{Identity, run};
    use kairn_config::Document;
    use std::fs;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    /// Says that it is overloaded as often as it was told, then takes everything.
    #[derive(Debug)]
    struct Home {
        busy: Mutex<u32>,
        heard: Mutex<Vec<(String, String)>>,
    }

    impl Fetch for Home {
        fn get(&self, request: &Request, _: &mut dyn Write) -> Result<Answer, FetchError> {
            let mut busy = self.busy.lock().unwrap();
            if let Some(less) = busy.checked_sub(1) {
                *busy = less;
                return Err(FetchError::Status { url: request.name(), status: 503 });
            }
            let form = request.form.as_ref().unwrap().reveal().clone();
            self.heard.lock().unwrap().push((request.url.reveal().clone(), form));
            Ok(Answer { status: 200, ..Answer::default() })
        }
    }

    fn called(body: &str, busy: u32) -> (Vec<Effect>, Vec<(String, String)>) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/hostname", "# own\nnode\n"),
            ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 node.example.org node\n"),
            ("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 A+/= root@node\n"),
        ] {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), text).unwrap();
        }
        let home = Arc::new(Home { busy: Mutex::new(busy), heard: Mutex::new(Vec::new()) });
        let identity = Identity { instance: Some("i-2".into()), ..Identity::default() };
        let context = Context { fetch: home.clone(), identity, ..context(dir.path()) };
        let documents = [Document::parse(
            "/oem/a.yaml",
            &format!("#cloud-config\nphone_home: {{url: 'http://h/$INSTANCE_ID', {body}}}\n"),
        )];
        let mut effects = Vec::new();
        for _ in 0..2 {
            let result = run(&documents, "network", &context, &mut Vec::new());
            assert_eq!(result.diagnostics, []);
            effects.extend(result.steps.iter().flat_map(|step| &step.actions).map(|action| action.effect.clone()));
        }
        let heard = home.heard.lock().unwrap().clone();
        (effects, heard)
    }

    #[test]
    fn an_address_is_told_once_for_an_instance_what_it_wants_to_know() {
        let (effects, heard) = called("post: [instance_id, fqdn, pub_key_ed25519, pub_key_rsa]", 0);
        assert_eq!(effects, [Effect::Changed]);
        let form = "instance_id=i-2&fqdn=node.example.org&pub_key_ed25519=ssh-ed25519+A%2B%2F%3D+root%40node&pub_key_rsa=N%2FA";
        assert_eq!(heard, [("http://h/i-2".to_owned(), form.to_owned())]);
        let (_, heard) = called("post: all", 0);
        let names: Vec<&str> = heard[0].1.split('&').filter_map(|pair| pair.split('=').next()).collect();
        let all = ["pub_key_rsa", "pub_key_ecdsa", "pub_key_ed25519", "instance_id", "hostname", "fqdn"];
        assert_eq!(names, all);
    }

    #[test]
    fn it_is_tried_as_often_as_it_says_and_again_at_the_next_boot() {
        assert_eq!(called("tries: 3", 2).0, [Effect::Changed]);
        let (effects, heard) = called("tries: 2", 3);
        assert!(matches!(&effects[..], [Effect::Failed(why), Effect::Changed] if why.contains("503")), "{effects:?}");
        assert_eq!(heard.len(), 1);
    }
}
