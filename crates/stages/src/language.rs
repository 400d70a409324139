//! The language that programs speak, and the layout of the keyboard.

use crate::{Context, Error, environment};
use kairn_config::{Keyboard, Locale};
use std::path::Path;

/// Sets the language; says whether anything changed. Programs speak it when the image has its files.
pub fn set_locale(context: &Context, locale: &Locale) -> Result<bool, Error> {
    let file =
        locale.file.as_deref().unwrap_or_else(|| of_distribution(context, "/etc/default/locale", "/etc/locale.conf"));
    environment::ensure(context, file, [("LANG".to_owned(), locale.name.clone())].into())
}

/// Sets the layout of the keyboard, for the next start of the console; says whether anything changed.
pub fn set_keyboard(context: &Context, keyboard: &Keyboard) -> Result<bool, Error> {
    let file = of_distribution(context, "/etc/default/keyboard", "/etc/vconsole.conf");
    let mut values = vec![
        ("XKBLAYOUT", keyboard.layout.clone()),
        ("XKBMODEL", keyboard.model.clone()),
        ("XKBVARIANT", keyboard.variant.clone()),
        ("XKBOPTIONS", keyboard.options.clone()),
    ];
    if file == Path::new("/etc/vconsole.conf") {
        values.push(("KEYMAP", keymap(keyboard)));
    }
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    environment::ensure(context, file, values)
}

/// Debian's file, where it or Debian is, else systemd's.
fn of_distribution(context: &Context, debian: &'static str, systemd: &'static str) -> &'static Path {
    let is_debian = [debian, "/etc/debian_version"].iter().any(|path| context.at(path.as_ref()).exists());
    Path::new(if is_debian { debian } else { systemd })
}

/// Names the keymap of the console that goes with a layout of X: the same, but for these (kbd's `kbd-model-map`).
fn keymap(keyboard: &Keyboard) -> String {
    let layout = keyboard.layout.split(',').next().unwrap_or_default();
    match layout {
        "gb" => "uk".to_owned(),
        "ch" => "sg".to_owned(),
        "jp" => "jp106".to_owned(),
        "latam" => "la-latin1".to_owned(),
        "no" => "no-latin1".to_owned(),
        other if keyboard.variant == "nodeadkeys" => format!("{other}-nodeadkeys"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::context;
    use std::fs;

    #[test]
    fn each_distribution_gets_its_own_file_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let here = context(dir.path());
        let locale = Locale { name: "de_DE.UTF-8".into(), file: None };
        let keyboard = Keyboard {
            layout: "gb".into(),
            model: "pc105".into(),
            variant: String::new(),
            options: "ctrl:nocaps".into(),
        };
        assert!(set_locale(&here, &locale).unwrap() && set_keyboard(&here, &keyboard).unwrap());
        assert!(!set_locale(&here, &locale).unwrap() && !set_keyboard(&here, &keyboard).unwrap());
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        assert_eq!(read("etc/locale.conf"), "LANG=\"de_DE.UTF-8\"\n");
        let layout = "XKBLAYOUT=\"gb\"\nXKBMODEL=\"pc105\"\nXKBOPTIONS=\"ctrl:nocaps\"\nXKBVARIANT=\"\"\n";
        assert_eq!(read("etc/vconsole.conf"), format!("KEYMAP=\"uk\"\n{layout}"));
        fs::write(dir.path().join("etc/debian_version"), "13\n").unwrap();
        assert!(set_locale(&here, &locale).unwrap() && set_keyboard(&here, &keyboard).unwrap());
        assert_eq!(
            (read("etc/default/locale"), read("etc/default/keyboard")),
            ("LANG=\"de_DE.UTF-8\"\n".into(), layout.into())
        );
        let named = Locale { file: Some("/etc/sysconfig/i18n".into()), ..locale };
        assert!(set_locale(&here, &named).unwrap());
        assert_eq!(read("etc/sysconfig/i18n"), "LANG=\"de_DE.UTF-8\"\n");
    }
}
