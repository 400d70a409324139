//! Carries out the settings that top-level keys of cloud-init make.

use crate::Effect;
use crate::run::Run;
use crate::{Error, clock, hostname, language, phone_home, power, resolver, trust};
use kairn_config::{Action, SettingWork, Text};

impl Run<'_> {
    pub(crate) fn setting(&mut self, work: &SettingWork, action: &Action) -> Result<Effect, Error> {
        let changed = match work {
            SettingWork::Name(names) => hostname::set_names(&self.context, names, &self.context.values.hostname())?,
            SettingWork::NameServers(servers) => resolver::set(&self.context, servers, self.sink)?,
            SettingWork::TimeZone(zone) => clock::set_zone(&self.context, zone)?,
            SettingWork::TimeSync(time) => clock::keep_time(&self.context, time, self.sink)?,
            SettingWork::Locale(locale) => language::set_locale(&self.context, locale)?,
            SettingWork::Keyboard(keyboard) => language::set_keyboard(&self.context, keyboard)?,
            SettingWork::Trust(wanted) => trust::set(&self.context, wanted, &action.span.source, self.sink)?,
            SettingWork::Message(text) => {
                let text = self.expand(text, action);
                return power::tell(&self.context, &text);
            }
            SettingWork::PhoneHome(wanted) => return phone_home::tell(&self.context, wanted, self.sink),
            SettingWork::Power(state) => {
                let instance = match power::due(&self.context) {
                    Ok(instance) => instance,
                    Err(why) => return Ok(Effect::Skipped(why)),
                };
                let data = self.data;
                // A template that cannot be expanded stays as it is, and makes a command that fails.
                let mut expand = |text: &Text| text.expand(data).text.into_owned();
                if !power::holds(&state.condition, &mut expand, &self.context, self.sink)? {
                    return Ok(Effect::Skipped("its condition does not hold".to_owned()));
                }
                return power::go_down(&self.context, state, &instance, self.sink);
            }
        };
        Ok(Effect::of(changed))
    }
}
