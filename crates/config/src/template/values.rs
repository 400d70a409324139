//! What templates stand for: the facts of a machine, and the data that a text at each place of a configuration sees of them.
//!
//! Invariant: everything that is not in the template comes from here. Time, chance and the environment are handed in, so that the same
//! data gives the same text but for chance.

use super::functions::{format_date, url_query};
use super::{Template, TemplateError};
use hmac::{Hmac, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What [`protected_id`] is bound to in steps and host names.
const APP_OF_STEPS: &str = "yip";
/// What it is bound to in `config_url`.
const APP_OF_CONFIG_URL: &str = "kairos-config-url";
/// Letters of `.Random`.
const RANDOM: &str = "1234567890abcdefghijklmnopqrstuvwxyz";
/// How many of them.
const RANDOM_LENGTH: usize = 32;

type Draw = dyn Fn() -> Option<[u8; 32]> + Send + Sync;

/// Where chance comes from.
#[derive(Clone, Default)]
pub struct Chance(Option<Arc<Draw>>);

impl Chance {
    /// Takes what gives 32 bytes at each call, or nothing when it cannot.
    #[must_use]
    pub fn from_source(draw: impl Fn() -> Option<[u8; 32]> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(draw)))
    }

    /// Draws 32 bytes; nothing where there is no source.
    pub(super) fn draw(&self) -> Option<[u8; 32]> {
        self.0.as_ref().and_then(|draw| draw())
    }

    /// Draws characters, each of the letters as likely as the other.
    pub(super) fn letters(&self, letters: &str, count: usize) -> Option<String> {
        let letters: Vec<char> = letters.chars().collect();
        let fair = 256 - 256 % letters.len().max(1);
        let mut text = String::with_capacity(count);
        let mut drawn = 0;
        // A source that gives nothing but such bytes is none.
        let mut draws = count.saturating_add(64);
        while drawn < count {
            draws = draws.checked_sub(1)?;
            // Bytes above the last whole round would favour the first letters.
            for byte in self.draw()?.into_iter().map(usize::from).filter(|byte| *byte < fair).take(count - drawn) {
                text.push(*letters.get(byte % letters.len().max(1))?);
                drawn += 1;
            }
        }
        Some(text)
    }

    /// Draws a version 4 UUID (RFC 9562, section 5.4).
    pub(super) fn uuid(&self) -> Option<String> {
        let [bytes, _] = self.draw()?.as_chunks::<16>().0.try_into().ok()?;
        let number = u128::from_be_bytes(bytes);
        let number = number & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = format!("{number:032x}");
        let part = |from: usize, to: usize| hex.get(from..to);
        Some([part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, part(20, 32)?].join("-"))
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Chance" } else { "no chance" })
    }
}

/// The facts of a machine that templates may ask for; read once, seen by each text through one of the functions.
#[derive(Clone, Default)]
pub struct TemplateValues {
    /// Content of `/etc/machine-id`: 32 hex digits; `None` when the machine has none yet.
    pub machine_id: Option<String>,
    /// What becomes `.Values`: a mapping with `node`, `os`, `kernel`, `product` and so on.
    pub inventory: Value,
    /// Variables for `env` and `expandenv`.
    pub environment: Arc<BTreeMap<String, String>>,
    /// Seconds since the epoch when the facts were read, for the functions of dates.
    pub now: Option<i64>,
    /// For `.Random`, `.UUID` and the functions that draw.
    pub chance: Chance,
}

impl fmt::Debug for TemplateValues {
    // The environment may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateValues").field("machine_id", &self.machine_id).finish_non_exhaustive()
    }
}

impl TemplateValues {
    /// Returns the data of the fields of a step, of its `if` and of package commands: `.Values`.
    #[must_use]
    pub fn step(&self) -> TemplateData {
        self.data(json!({"Values": self.values(APP_OF_STEPS)}), vec![Drawn::new(&["Values", "Random"], Kind::Random)])
    }

    /// Returns the data of a host name: `.MachineID`, `.ProtectedID`, `.Random` and `.UUID`. There is no `.Values`.
    #[must_use]
    pub fn hostname(&self) -> TemplateData {
        let mut tree = Map::new();
        if let Some(id) = &self.machine_id {
            tree.insert("MachineID".to_owned(), id.as_str().into());
            tree.insert("ProtectedID".to_owned(), protected_id(id, APP_OF_STEPS).into());
        }
        let drawn = vec![Drawn::new(&["Random"], Kind::Random), Drawn::new(&["UUID"], Kind::Uuid)];
        self.data(Value::Object(tree), drawn)
    }

    /// Returns the data of `kairn render-template`: `.Config`, the merged configuration, and `.State`, what the node knows of itself.
    #[must_use]
    pub fn file(&self, config: Value, state: Value) -> TemplateData {
        self.data(json!({"Config": config, "State": state}), Vec::new())
    }

    /// Renders a `config_url`: it sees `.Values` with every text escaped for the query of a URL, and may leave no hole.
    ///
    /// # Errors
    /// It cannot be parsed or rendered, the machine does not have what it names, or a whole part of the path or value of the query
    /// becomes empty.
    pub fn config_url(&self, url: &str) -> Result<String, TemplateError> {
        if !url.contains("{{") {
            return Ok(url.to_owned());
        }
        let mut values = self.values(APP_OF_CONFIG_URL);
        escape(&mut values);
        let mut data = self.data(json!({"Values": values}), vec![Drawn::new(&["Values", "Random"], Kind::Random)]);
        data.strict = true;
        Template::parse(url)?.render(&data)?.without_holes()
    }

    /// The tree below `.Values`, but for `.Values.Random`.
    fn values(&self, app: &str) -> Value {
        let mut values = match &self.inventory {
            Value::Object(entries) => entries.clone(),
            _ => Map::new(),
        };
        if let Some(id) = &self.machine_id {
            values.insert("ProtectedID".to_owned(), protected_id(id, app).into());
        }
        let mut about = Map::new();
        about.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        if let Some(now) = self.now {
            about.insert("timestamp".to_owned(), format_date("2006-01-02T15:04:05Z07:00", now).into());
        }
        values.insert("sysinfo".to_owned(), about.into());
        let mut values = Value::Object(values);
        floats(&mut values);
        values
    }

    fn data(&self, tree: Value, drawn: Vec<Drawn>) -> TemplateData {
        let outside =
            Outside { environment: Arc::clone(&self.environment), now: self.now, chance: self.chance.clone() };
        TemplateData { tree, drawn, strict: false, outside }
    }
}

/// Returns a name for the machine that does not tell its machine-id: HMAC-SHA256 of the name of an application, keyed with the id.
fn protected_id(machine_id: &str, app: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(machine_id.as_bytes()) else { return String::new() };
    mac.update(app.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes floats of all numbers. Kairos' tree is read from JSON, where Go makes every number a `float64`, and templates that are written
/// for it say `printf "%.0f"`.
fn floats(value: &mut Value) {
    each_leaf(value, &mut |leaf| {
        if let Some(float) = leaf.as_f64() {
            *leaf = float.into();
        }
    });
}

fn escape(value: &mut Value) {
    each_leaf(value, &mut |leaf| {
        if let Value::String(text) = leaf {
            *text = url_query(text);
        }
    });
}

fn each_leaf(value: &mut Value, change: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_leaf(item, change)),
        Value::Object(entries) => entries.values_mut().for_each(|item| each_leaf(item, change)),
        leaf => change(leaf),
    }
}

/// What one text sees. Chance is drawn anew each time that a text is rendered.
#[derive(Clone, Default)]
pub struct TemplateData {
    tree: Value,
    drawn: Vec<Drawn>,
    /// Whether it is an error to name what is not there (`missingkey=error`).
    strict: bool,
    outside: Outside,
}

/// What functions know besides their arguments.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside {
    pub(super) environment: Arc<BTreeMap<String, String>>,
    pub(super) now: Option<i64>,
    pub(super) chance: Chance,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Random,
    Uuid,
}

/// A leaf that chance gives.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    path: &'static [&'static str],
    kind: Kind,
}

impl Drawn {
    const fn new(path: &'static [&'static str], kind: Kind) -> Self {
        Self { path, kind }
    }
}

impl fmt::Debug for TemplateData {
    // The tree may be a whole configuration, with its passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateData").field("strict", &self.strict).finish_non_exhaustive()
    }
}

impl From<Value> for TemplateData {
    fn from(tree: Value) -> Self {
        Self { tree, ..Self::default() }
    }
}

impl TemplateData {
    /// Makes it an error to name what is not there, as `missingkey=error` of Go's package does.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Looks a value up by a JSON pointer, such as `/Values/node/hostname`; what chance gives is in no place.
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        self.tree.pointer(pointer)
    }

    pub(super) const fn is_strict(&self) -> bool {
        self.strict
    }

    pub(super) const fn outside(&self) -> &Outside {
        &self.outside
    }

    /// The tree of one rendering. Without chance, what it would give is missing.
    pub(super) fn root(&self) -> Value {
        let mut root = self.tree.clone();
        for drawn in &self.drawn {
            let text = match drawn.kind {
                Kind::Random => self.outside.chance.letters(RANDOM, RANDOM_LENGTH),
                Kind::Uuid => self.outside.chance.uuid(),
            };
            if let (Some(text), Some((name, above))) = (text, drawn.path.split_last()) {
                let place = above.iter().try_fold(&mut root, |place, name| place.get_mut(*name));
                if let Some(Value::Object(entries)) = place {
                    entries.insert((*name).to_owned(), text.into());
                }
            }
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Gives other bytes at each call, always the same row of them.
    fn counted() -> Chance {
        let count = AtomicU64::new(1);
        Chance::from_source(move || {
            let mut state = count.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut bytes = [0; 32];
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state.to_le_bytes()[3];
            }
            Some(bytes)
        })
    }

    fn values() -> TemplateValues {
        TemplateValues {
            machine_id: Some("0123456789abcdef0123456789abcdef".into()),
            inventory: json!({
                "node": {"hostname": "edge 7"},
                "memory": {"size": 8192},
                "network": [{"name": "eth0", "macaddress": "52:54:00:12:34:56"}],
                "product": {"serial": "A&B/1", "sku": ""},
            }),
            chance: counted(),
            now: Some(1_614_870_367),
            ..TemplateValues::default()
        }
    }

    fn render(text: &str, data: &TemplateData) -> String {
        Template::parse(text).and_then(|template| template.render(data)).unwrap_or_else(|error| panic!("{error}")).text
    }

    #[test]
    fn steps_see_the_inventory_as_values() {
        let data = values().step();
        for (text, rendered) in [
            ("{{ .Values.node.hostname }}", "edge 7"),
            ("{{ (index .Values.network 0).macaddress }}", "52:54:00:12:34:56"),
            ("{{ .Values.memory.size }} {{ printf \"%.0f\" .Values.memory.size }}", "8192 8192"),
            ("{{ if gt .Values.memory.size 4096 }}big{{ end }}", "big"),
            ("{{ toJson .Values.memory }}", "{\"size\":8192}"),
            ("{{ len .Values.Random }}", "32"),
            ("{{ .Values.sysinfo.timestamp }}", "2021-03-04T15:06:07Z"),
            ("{{ .MachineID }} {{ .Values.board.name }}", "<no value> <no value>"),
        ] {
            assert_eq!(render(text, &data), rendered, "{text}");
        }
        assert_eq!(render("{{ .Values.node }}", &TemplateValues::default().step()), "<no value>");
    }

    #[test]
    fn the_protected_id_is_the_hmac_of_the_application() {
        // RFC 4231, test case 2.
        let known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(protected_id("Jefe", "what do ya want for nothing?"), known);
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(render("{{ .Values.ProtectedID }}", &values().step()), protected_id(id, "yip"));
        assert_eq!(render("{{ .ProtectedID }}", &values().hostname()), protected_id(id, "yip"));
        assert_eq!(
            values().config_url("https://c/{{ .Values.ProtectedID }}").unwrap(),
            format!("https://c/{}", protected_id(id, "kairos-config-url"))
        );
    }

    #[test]
    fn host_names_have_their_own_data() {
        let data = values().hostname();
        assert_eq!(render("n-{{ trunc 4 .MachineID }}", &data), "n-0123");
        assert_eq!(render("{{ len .Random }} {{ len .UUID }} {{ .Values }}", &data), "32 36 <no value>");
        let uuid = render("{{ .UUID }}", &data);
        let shape: String = uuid.chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
        assert_eq!(shape, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        let nothing = TemplateValues::default().hostname();
        assert_eq!(render("{{ .MachineID }}{{ .Random }}{{ .UUID }}", &nothing), "<no value>".repeat(3));
    }

    #[test]
    fn chance_is_drawn_anew_for_each_text_and_stays_within_one() {
        let data = values().step();
        let (one, other) = (render("{{ .Values.Random }}", &data), render("{{ .Values.Random }}", &data));
        assert_ne!(one, other);
        assert!(one.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase()), "{one}");
        assert_eq!(render("{{ eq .Values.Random .Values.Random }}", &data), "true");
    }

    #[test]
    fn letters_are_drawn_evenly() {
        assert_eq!(Chance::from_source(|| Some([255; 32])).letters(RANDOM, 3), None);
        let text = counted().letters(RANDOM, 36_000).unwrap();
        for letter in RANDOM.chars() {
            let count = text.chars().filter(|c| *c == letter).count();
            assert!((850..1150).contains(&count), "{letter}: {count}");
        }
    }

    #[test]
    fn a_config_url_is_escaped_and_has_no_holes() {
        let values = values();
        for (url, rendered) in [
            ("https://c/x", "https://c/x"),
            ("https://c/{{ .Values.node.hostname }}?s={{ .Values.product.serial }}", "https://c/edge+7?s=A%26B%2F1"),
            ("https://c/?m={{ (index .Values.network 0).macaddress }}", "https://c/?m=52%3A54%3A00%3A12%3A34%3A56"),
            ("https://c/a{{ .Values.product.sku }}/b?x=", "https://c/a/b?x="),
            ("https://c//b?q={{ required \"no id\" .Values.product.serial }}", "https://c//b?q=A%26B%2F1"),
        ] {
            assert_eq!(values.config_url(url).unwrap(), rendered, "{url}");
        }
        for (url, place, says) in [
            ("https://c/{{ .Values.board.serial }}", ".Values.board.serial", "no `board`"),
            ("https://c/{{ .MachineID }}", ".MachineID", "no `MachineID`"),
            ("https://c/{{ .Values.product.sku }}", "{{ .Values.product.sku }}", "empty"),
            ("https://c/?a={{ .Values.product.sku }}&b=1", "{{ .Values.product.sku }}", "empty"),
            ("https://c/{{ .Values.product.sku }}/b", "{{ .Values.product.sku }}", "empty"),
            ("https://c/{{ index .Values.product \"x\" }}", "{{ index .Values.product \"x\" }}", "not known"),
            ("https://c/{{ .Values.product.sku | required \"no sku\" }}", "required \"no sku\"", "no sku"),
        ] {
            let error = values.config_url(url).unwrap_err();
            assert!(error.to_string().contains(says), "{url}: {error}");
            assert_eq!(&url[error.at()], place, "{url}");
        }
    }

    #[test]
    fn files_see_the_configuration_and_the_state() {
        let data = values().file(json!({"install": {"device": "/dev/vda"}}), json!({"boot": "active"}));
        assert_eq!(
            render("{{ .Config.install.device }} {{ .State.boot }} {{ .Values }}", &data),
            "/dev/vda active <no value>"
        );
        assert!(!format!("{data:?} {:?}", values()).contains("/dev/vda"));
    }
}
