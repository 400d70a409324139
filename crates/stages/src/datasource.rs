//! Asks datasources who the machine is, and acts on the answer: name, keys, network, scripts; configurations in it lie where the
//! next stages find them.

use crate::{Context, Effect, Error, frequency, hostname, instance, keys, network, shell};
use kairn_config::network::{Dialect, parse};
use kairn_config::user_data::{Content, Part, ScriptFrequency};
use kairn_config::{Datasource, Document, Frequency, Severity, SshKey, hostname_fault, render_text};
use kairn_datasource::{Decoded, Found, Hints, NetworkFormat, Options, ProviderName, Script, ScriptPolicy, Target};
use kairn_report::{Event, Secret, Sink};

/// Asks; a machine without any of the datasources is no fault.
pub fn pull(context: &Context, wanted: &Datasource, sink: &mut dyn Sink) -> Result<Effect, Error> {
    let providers = wanted.providers.iter().map(|name| name.parse::<ProviderName>());
    let providers = providers.collect::<Result<Vec<_>, _>>()?;
    let is_file = providers == [ProviderName::File];
    let mut options = Options { root: context.root.clone(), ..Options::new(providers) };
    options.file = Some(wanted.path.clone());
    let found = match kairn_datasource::fetch(&options, &Hints::read(&context.root)?, sink) {
        Ok(found) => found,
        Err(error @ kairn_datasource::Error::NothingFound { .. }) => {
            kairn_datasource::store_nothing(&context.root)?;
            return Ok(Effect::Skipped(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    for warning in &found.warnings {
        sink.event(Event::warning(format!("{}: {warning}", found.provider)));
    }
    let mut decoded = Decoded::of(&found).with_includes(&options, None, sink);
    let mut target = Target { userdata_name: wanted.userdata_name.clone(), ..Target::new(context.root.clone()) };
    if !is_file {
        target.path.clone_from(&wanted.path);
    }
    target.scripts = if wanted.scripts { ScriptPolicy::Allow } else { ScriptPolicy::Refuse };
    let mut changed = instance::keep(context, &found, &target.path)?;
    render_scripts(context, &mut decoded, sink)?;
    let plan = kairn_datasource::store(&found, &decoded, &target, sink)?;
    changed |= plan.changed;
    for said in plan.diagnostics.iter().filter(|said| said.severity != Severity::Note) {
        sink.event(Event::warning(said.to_string()));
    }
    changed |= apply(context, &found, sink)?;
    let ran = run_scripts(context, &plan.scripts, sink)?;
    Ok(Effect::of(changed || ran))
}

/// Runs programs as often as they say. One that fails does not stop the next; the first failure is that of the whole.
fn run_scripts(context: &Context, scripts: &[Script], sink: &mut dyn Sink) -> Result<bool, Error> {
    let mut ran = false;
    let mut failure = None;
    for script in scripts {
        match run_script(context, script, sink) {
            Ok(done) => ran |= done,
            Err(error) => {
                sink.event(Event::failed(format!("program of {}", script.source), error.to_string()));
                failure = failure.or(Some(error));
            }
        }
    }
    failure.map_or(Ok(ran), Err)
}

fn run_script(context: &Context, script: &Script, sink: &mut dyn Sink) -> Result<bool, Error> {
    let Some(path) = &script.path else {
        let text = "a script is kept and not run; `scripts: true` in `datasource` would run it";
        sink.event(Event::warning(format!("{}: {text}", script.source)));
        return Ok(false);
    };
    let frequency = match script.frequency {
        ScriptFrequency::Always => Frequency::Always,
        ScriptFrequency::PerInstance => Frequency::PerInstance,
        ScriptFrequency::Once => Frequency::Once,
    };
    let path = path.to_string_lossy().into_owned();
    let name = format!("program {path}");
    if let Some(why) = frequency::ran_as(&name, frequency, context)? {
        sink.event(Event::skipped(format!("program of {}", script.source), why));
        return Ok(false);
    }
    // One that runs a second time may be worse than one that does not run.
    frequency::prepare(frequency, context)?;
    shell::run_words(&[path], context, sink)?;
    frequency::note_as(&name, frequency, context)?;
    Ok(true)
}

/// Renders programs that ask for it with cloud-init's header. Configurations are stored as they came, and rendered when they are read.
fn render_scripts(context: &Context, decoded: &mut Decoded, sink: &mut dyn Sink) -> Result<(), Error> {
    let instance = instance::data(&context.root)?;
    let mut is_usable = |part: &mut Part| {
        let (true, Content::Script { body, .. }) = (part.jinja, &mut part.content) else { return true };
        let Ok(text) = std::str::from_utf8(body.reveal()) else {
            sink.event(Event::warning(format!("{}: a template is UTF-8; this one is left out", part.source)));
            return false;
        };
        match render_text(&part.source, text, &instance) {
            Ok(rendered) => *body = Secret::new(rendered.into_bytes()),
            Err(said) => {
                sink.event(Event::warning(format!("{said}; the program is left out")));
                return false;
            }
        }
        true
    };
    decoded.vendor.parts.retain_mut(&mut is_usable);
    decoded.user.parts.retain_mut(&mut is_usable);
    Ok(())
}

/// Sets name, keys and network, and says whether they were others; what cannot be is told and leaves the rest alone.
fn apply(context: &Context, found: &Found, sink: &mut dyn Sink) -> Result<bool, Error> {
    let mut changed = false;
    if let Some(name) = &found.hostname {
        match hostname_fault(name) {
            None => changed |= hostname::set(context, name)?,
            Some(fault) => {
                let text = format!("{}: `{name}` cannot be a host name: {fault}", found.provider);
                sink.event(Event::warning(text));
            }
        }
    }
    if !found.ssh_keys.is_empty() {
        let lines: Vec<SshKey> = found.ssh_keys.iter().map(|line| SshKey::Line(line.clone())).collect();
        changed |= keys::ensure(context, "root", &lines, sink)?;
    }
    let Some(config) = &found.network_config else { return Ok(changed) };
    if config.format != NetworkFormat::NetworkConfig {
        let text = format!("{}: its description of the network is in a language that is not read yet", found.provider);
        sink.event(Event::warning(text));
        return Ok(changed);
    }
    let document = Document::parse("network-config", config.text.reveal());
    let Some(root) = &document.root else {
        document.diagnostics.iter().for_each(|said| sink.event(Event::warning(said.to_string())));
        return Ok(changed);
    };
    let (described, said) = parse(&document, root, Dialect::Auto);
    said.iter().for_each(|said| sink.event(Event::warning(said.to_string())));
    if let Some(described) = described.filter(|network| !network.interfaces.is_empty()) {
        changed |= network::ensure(context, &described, sink)?;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use crate::{Identity, run};
    use kairn_config::DATASOURCES;
    use std::fs;

    #[test]
    fn the_names_that_a_configuration_may_give_are_those_of_the_datasources() {
        let names: Vec<_> = ProviderName::ALL.iter().map(|provider| provider.name()).collect();
        assert_eq!(names, DATASOURCES);
    }

    #[test]
    fn user_data_of_a_file_is_kept_as_it_came_where_the_next_stage_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let user_data = "#cloud-config\nhostname: '{{ .Random }}'\n";
        fs::write(dir.path().join("seed"), user_data).unwrap();
        let text = "stages: {boot: [{datasource: {providers: [file], path: /seed}}]}";
        let result = run(&[Document::parse("a", text)], "boot", &context(dir.path()), &mut Vec::new());
        assert_eq!(result.failures(), 0, "{result:?}");
        assert_eq!(fs::read_to_string(dir.path().join("run/config/userdata.yaml")).unwrap(), user_data);
        assert!(dir.path().join("run/kairn/instance.json").exists());
    }

    #[test]
    fn programs_run_as_often_as_they_say_and_the_second_time_nothing_changes() {
        let Some(dir) = crate::tool::tests::root_with_shell() else { return };
        let root = dir.path();
        fs::copy("/usr/bin/env", root.join("usr/bin/env")).unwrap();
        let part = |kind: &str, body: &str| format!("--b\nContent-Type: text/{kind}\n\n{body}\n");
        let message = [
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n".to_owned(),
            part("x-shellscript-per-boot", "#!/bin/sh\necho boot >> /ran"),
            part("x-shellscript", "## template: jinja\n#!/bin/sh\necho {{ v1.cloud_name }} >> /ran"),
            part("x-shellscript", "#!/bin/sh\necho instance >> /ran; exit 3"),
            part("x-shellscript-per-once", "#!/bin/sh\necho once >> /ran"),
            part("cloud-config", "#cloud-config\nhostname: a"),
            "--b--\n".to_owned(),
        ];
        fs::write(root.join("seed"), message.concat()).unwrap();
        let ran = |instance: &str| {
            let identity = Identity { instance: Some(instance.into()), ..Identity::default() };
            let text = "stages: {boot: [{datasource: {providers: [file], path: /seed, scripts: true}}]}";
            let result =
                run(&[Document::parse("a", text)], "boot", &Context { identity, ..context(root) }, &mut Vec::new());
            let lines = fs::read_to_string(root.join("ran")).unwrap();
            fs::remove_file(root.join("ran")).unwrap();
            (result.steps[0].actions[0].effect.clone(), lines.replace('\n', " "))
        };
        let (effect, lines) = ran("i-1");
        assert!(matches!(&effect, Effect::Failed(why) if why.contains("exit status: 3")), "{effect:?}");
        assert_eq!(lines, "boot file instance once ");
        // The one that failed runs again.
        assert_eq!(ran("i-1").1, "boot instance ");
        fs::write(root.join("seed"), message.concat().replace("; exit 3", "")).unwrap();
        assert_eq!(ran("i-1"), (Effect::Changed, "boot instance ".to_owned()));
        assert_eq!(ran("i-2").1, "boot file instance ");
        fs::write(root.join("seed"), message.concat().replace("per-boot", "per-once").replace("; exit 3", "")).unwrap();
        fs::write(root.join("ran"), "").unwrap();
        assert_eq!(ran("i-2").0, Effect::Changed);
        fs::write(root.join("ran"), "").unwrap();
        assert_eq!(ran("i-2"), (Effect::Unchanged, String::new()));
    }

    #[test]
    fn a_machine_without_any_of_them_skips_the_step_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let text = "stages: {boot: [{datasource: {providers: [file], path: /absent}}]}";
        let result = run(&[Document::parse("a", text)], "boot", &context(dir.path()), &mut Vec::new());
        assert!(
            matches!(&result.steps[0].actions[0].effect, Effect::Skipped(why) if why.contains("file")),
            "{result:?}"
        );
    }
}
