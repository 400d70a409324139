//! Asks datasources who the machine is, and acts on the answer: name, keys, network, scripts; configurations in it lie where the
//! next stages find them.

use crate::{Context, Effect, Error, hostname, instance, keys, network, shell};
use kairn_config::network::{Dialect, parse};
use kairn_config::user_data::{Content, Part};
use kairn_config::{Datasource, Document, Severity, SshKey, hostname_fault, render_text};
use kairn_datasource::{Decoded, Found, Hints, NetworkFormat, Options, ProviderName, ScriptPolicy, Target};
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
    instance::keep(context, &found, &target.path)?;
    render_scripts(context, &mut decoded, sink)?;
    let plan = kairn_datasource::store(&found, &decoded, &target, sink)?;
    for said in plan.diagnostics.iter().filter(|said| said.severity != Severity::Note) {
        sink.event(Event::warning(said.to_string()));
    }
    apply(context, &found, sink)?;
    for script in &plan.scripts {
        match &script.path {
            Some(path) => {
                let words = [path.to_string_lossy().into_owned()];
                shell::run_words(&words, context, sink)?;
            }
            None => sink.event(Event::warning(format!(
                "{}: a script is kept and not run; `scripts: true` in `datasource` would run it",
                script.source
            ))),
        }
    }
    Ok(Effect::Changed)
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

/// Sets name, keys and network; what cannot be is told and leaves the rest alone.
fn apply(context: &Context, found: &Found, sink: &mut dyn Sink) -> Result<(), Error> {
    if let Some(name) = &found.hostname {
        match hostname_fault(name) {
            None => {
                hostname::set(context, name)?;
            }
            Some(fault) => {
                let text = format!("{}: `{name}` cannot be a host name: {fault}", found.provider);
                sink.event(Event::warning(text));
            }
        }
    }
    if !found.ssh_keys.is_empty() {
        let lines: Vec<SshKey> = found.ssh_keys.iter().map(|line| SshKey::Line(line.clone())).collect();
        keys::ensure(context, "root", &lines, sink)?;
    }
    let Some(config) = &found.network_config else { return Ok(()) };
    if config.format != NetworkFormat::NetworkConfig {
        let text = format!("{}: its description of the network is in a language that is not read yet", found.provider);
        sink.event(Event::warning(text));
        return Ok(());
    }
    let document = Document::parse("network-config", config.text.reveal());
    let Some(root) = &document.root else {
        document.diagnostics.iter().for_each(|said| sink.event(Event::warning(said.to_string())));
        return Ok(());
    };
    let (described, said) = parse(&document, root, Dialect::Auto);
    said.iter().for_each(|said| sink.event(Event::warning(said.to_string())));
    if let Some(described) = described.filter(|network| !network.interfaces.is_empty()) {
        network::ensure(context, &described, sink)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use crate::run;
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
