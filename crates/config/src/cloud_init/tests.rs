//! What the top-level keys about users, and the entities of steps, mean.

use crate::{AccountWork, Credential, Document, FileWork, Group, Lock, Mode, SshDaemon, SshKey, Work, plan};

/// The accounts that the top level means for a stage, by label; and what is said.
fn accounts(body: &str, stage: &str) -> (Vec<(String, AccountWork)>, Vec<String>) {
    let plan = plan(&[Document::parse("t", &format!("#cloud-config\n{body}"))], stage);
    let actions = plan.steps.into_iter().flat_map(|step| step.actions);
    let work = actions.filter_map(|action| match action.work {
        Work::Accounts(work) => Some((action.label, work)),
        _ => None,
    });
    (work.collect(), plan.diagnostics.iter().map(ToString::to_string).collect())
}

#[test]
fn the_default_user_is_kairos_and_gets_what_the_top_level_says_of_it() {
    for (body, name, groups) in [
        ("users: [default]\npassword: p\n", "kairos", vec!["admin"]),
        ("users: default\npassword: p\n", "kairos", vec!["admin"]),
        ("user: ada\npassword: p\n", "ada", vec!["admin"]),
        ("users: [default]\nuser: {name: ada, groups: [a, b]}\npassword: p\n", "ada", vec!["a", "b"]),
    ] {
        let (work, said) = accounts(&format!("ssh_authorized_keys: [ssh-rsa A]\n{body}"), "boot");
        assert_eq!(said, [""; 0], "{body}");
        let [(_, AccountWork::User(user)), (label, AccountWork::Password(password))] = work.as_slice() else {
            panic!("{work:?}")
        };
        assert_eq!((user.name.as_str(), user.keys.len()), (name, 1));
        assert_eq!(user.groups, groups);
        assert_eq!(user.password, None);
        assert_eq!((label.as_str(), password.user.as_str()), (format!("password of {name}").as_str(), name));
    }
    let (work, said) = accounts("password: hunter2\nssh_import_id: [ada]\n", "boot");
    assert_eq!((work, said.len()), (vec![], 2));
    assert!(said[0].contains("speaks of the default user, and there is none"), "{said:?}");
    assert!(!said.concat().contains("hunter2"));
}

#[test]
fn names_between_commas_are_users_each() {
    let (work, said) = accounts("users: ['ada, bob', cy]\n", "boot");
    let labels: Vec<_> = work.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!((labels, said), (vec!["user ada", "user bob", "user cy"], vec![]));
}

#[test]
fn keys_that_are_fetched_wait_for_the_network() {
    let body = "ssh_authorized_keys: ['github:a', ssh-rsa A]\n\
                users: [{name: u, ssh_import_id: ['gh:b', c]}, {name: v, ssh_authorized_keys: 'https://h/k?t=s3cret'}]\n";
    let (boot, said) = accounts(body, "boot");
    assert_eq!(said, [""; 0]);
    for (label, work) in &boot {
        let AccountWork::User(user) = work else { panic!("{label}") };
        assert_eq!(user.keys, [SshKey::Line("ssh-rsa A".into())]);
    }
    let (network, _) = accounts(body, "network");
    let from: Vec<_> = network
        .iter()
        .map(|(label, work)| {
            let AccountWork::AuthorizedKeys { keys, .. } = work else { panic!() };
            let names = keys.iter().map(|key| match key {
                SshKey::Remote(source) => source.name.as_str(),
                SshKey::Line(_) => panic!(),
            });
            (label.as_str(), names.collect::<Vec<_>>())
        })
        .collect();
    let expected =
        [("keys of u", vec!["github:b", "lp:c", "github:a"]), ("keys of v", vec!["https://h/k?…", "github:a"])];
    assert_eq!(from, expected);
    assert!(!format!("{network:?}").contains("s3cret"));
    let (root, _) = accounts("ssh_authorized_keys: 'github:a'\n", "network");
    assert_eq!(root[0].0, "keys of root");
    assert_eq!(accounts("ssh_authorized_keys: 'github:a'\n", "boot").0, []);
}

#[test]
fn a_user_of_the_list_is_read_whole() {
    let body = "users:\n- name: ada\n  plain_text_passwd: '$ecret'\n  sudo: ['ALL=(ALL) NOPASSWD:ALL']\n  \
                expiredate: '2032-09-01'\n  inactive: '5'\n  no_user_group: true\n  no_log_init: true\n  \
                create_groups: true\n  lock_passwd: true\n  groups: a, b\n- {name: bob, sudo: false, hashed_passwd: $6$a$b}\n";
    let (work, said) = accounts(body, "boot");
    assert_eq!(said, [""; 0]);
    let [(_, AccountWork::User(ada)), (_, AccountWork::User(bob))] = work.as_slice() else { panic!() };
    assert!(matches!(&ada.password, Some(Credential::Plain(text)) if text.reveal() == "$ecret"));
    assert_eq!(ada.sudo, ["ALL=(ALL) NOPASSWD:ALL"]);
    assert_eq!((ada.expires, ada.inactive, ada.lock), (Some(22_889), Some(5), Lock::Always));
    assert!(ada.no_user_group && ada.create_groups);
    assert!(matches!(&bob.password, Some(Credential::Hash(_))) && bob.sudo.is_empty());
    let step = plan(&[Document::parse("t", "stages: {s: [{users: {u: {lock_passwd: true, sudo: 'ALL=ALL'}}}]}")], "s");
    assert!(
        matches!(&step.steps[0].actions[0].work, Work::Accounts(AccountWork::User(user)) if user.lock == Lock::WhenMade && user.sudo == ["ALL=ALL"])
    );
}

#[test]
fn what_a_user_cannot_have_is_pointed_at_and_its_neighbours_stay() {
    for (user, said) in [
        ("sudo: \"ALL=ALL\\nevil ALL=ALL\"", "a rule of `sudo` is one line, without a backslash at its end"),
        ("sudo: 'ALL=ALL \\'", "a rule of `sudo` is one line, without a backslash at its end"),
        ("sudo: true", "`true` is no rule of sudoers(5)"),
        ("expiredate: 2032-02-30", "`expiredate` is a day such as 2032-09-01, not `2032-02-30`"),
        ("inactive: soon", "`inactive` is a number of days, not `soon`"),
        ("hashed_passwd: hunter2", "this is no hash of crypt(5), which begins with `$`"),
        ("passwd: \"hunter2\\nx\"", "a password must not hold a line break"),
        ("ssh_import_id: 'gh:../x'", "no keys can be fetched from `github:../x`: no such name can be"),
        ("ssh_authorized_keys: ['https://']", "no keys can be fetched from `https://`: it is no URL"),
    ] {
        let text = format!("#cloud-config\nusers: [{{name: u, {user}}}, {{name: good}}]\n");
        let plan = plan(&[Document::parse("t", &text)], "boot");
        assert_eq!(plan.diagnostics.len(), 1, "{:?}", plan.diagnostics);
        assert_eq!(plan.diagnostics[0].message, said);
        assert!(!plan.diagnostics[0].to_string().contains("hunter2"));
        let works: Vec<_> = plan.steps[0].actions.iter().map(|a| matches!(a.work, Work::Invalid(_))).collect();
        assert_eq!(works, [true, false], "{user}");
    }
    let (work, said) = accounts("users: [{name: u, ssh_authorized_keys: 'http://h/k'}]\n", "boot");
    assert_eq!(work.len(), 1);
    assert!(said[0].contains("warning: keys that are fetched without TLS"), "{said:?}");
}

#[test]
fn groups_are_made_before_users_however_they_are_written() {
    for body in ["groups: [{a: [x, y]}, b]\n", "groups: {a: 'x, y', b: }\n"] {
        let (work, said) = accounts(&format!("users: [u]\n{body}"), "boot");
        assert_eq!(said, [""; 0]);
        let group = |name: &str, members: &[&str]| {
            let members = members.iter().map(|member| (*member).to_owned()).collect();
            (format!("group {name}"), AccountWork::Group(Group { name: name.into(), members }))
        };
        assert_eq!(work[..2], [group("a", &["x", "y"]), group("b", &[])]);
        assert_eq!(work[2].0, "user u");
    }
    assert_eq!(accounts("groups: a, b\n", "boot").0.len(), 2);
    assert!(accounts("groups: [[a]]\n", "boot").1[0].contains("a group is a name or a mapping"));
}

#[test]
fn passwords_of_chpasswd_are_read_in_every_form_and_never_shown() {
    let body = "chpasswd:\n  expire: true\n  list: |\n    ada:hunter2:x\n    bob:$6$a$hunter2\n    cy:RANDOM\n    hunter2\n  \
                users:\n  - {name: dan, password: hunter2, type: text}\n  - {name: eve, password: $6$a$hunter2}\n  \
                - {name: flo, password: hunter2}\n  - {name: gus, type: RANDOM}\n  - {name: hal, password: x, type: base64}\n";
    let (work, said) = accounts(body, "boot");
    let read: Vec<_> = work
        .iter()
        .map(|(_, work)| {
            let AccountWork::Password(password) = work else { panic!("{work:?}") };
            assert!(password.expired);
            let kind = match &password.password {
                Credential::Plain(text) => ("plain", text.reveal().as_str()),
                Credential::Hash(text) => ("hash", text.reveal().as_str()),
            };
            (password.user.as_str(), kind.0, kind.1)
        })
        .collect();
    let expected = [
        ("ada", "plain", "hunter2:x"),
        ("bob", "hash", "$6$a$hunter2"),
        ("dan", "plain", "hunter2"),
        ("eve", "hash", "$6$a$hunter2"),
    ];
    assert_eq!(read, expected);
    assert_eq!(said.len(), 5, "{said:?}");
    let text = format!("#cloud-config\n{body}");
    let plan = plan(&[Document::parse("t", &text)], "boot");
    let shown = format!("{plan:?}{}", serde_json::to_string(&plan).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    let (work, _) = accounts("chpasswd: {list: ['a:b']}\n", "boot");
    assert!(matches!(&work[0].1, AccountWork::Password(password) if !password.expired));
}

#[test]
fn the_ssh_daemon_and_its_keys_are_read() {
    let (work, said) = accounts("ssh_pwauth: no\ndisable_root: true\n", "boot");
    assert_eq!(said, [""; 0]);
    assert_eq!(work[0].1, AccountWork::SshDaemon(SshDaemon { passwords: Some(false), no_root: true }));
    assert_eq!(accounts("ssh_pwauth: unchanged\ndisable_root: false\n", "boot"), (vec![], vec![]));
    let text = "#cloud-config\nssh_keys: {rsa_private: s3cret, ed25519_public: ssh-ed25519 A, dsa_private: s3cret}\n";
    let plan = plan(&[Document::parse("t", text)], "boot");
    let files: Vec<_> = plan.steps[0].actions.iter().map(|action| (&action.label, &action.work)).collect();
    let [(_, Work::Files(FileWork::File(private))), (_, Work::Files(FileWork::File(public))), (_, Work::Invalid(_))] =
        files.as_slice()
    else {
        panic!("{files:?}")
    };
    assert_eq!((private.path.to_str(), private.mode), (Some("/etc/ssh/ssh_host_rsa_key"), Some(Mode(0o600))));
    assert_eq!(public.path.to_str(), Some("/etc/ssh/ssh_host_ed25519_key.pub"));
    assert!(!format!("{plan:?}").contains("s3cret"));
}

#[test]
fn an_entity_is_read_with_the_plan_unless_it_holds_a_template() {
    let text = "stages:\n  s:\n  - ensure_entities:\n    - entity: |\n        kind: shadow\n        username: u\n        \
                password: hunter2\n    - path: /tmp/passwd\n      entity: |\n        kind: user\n        \
                username: 'u-{{ .Values.node.hostname }}'\n    - entity: '{kind: grup}'\n    delete_entities:\n    \
                - entity: '{kind: group, group_name: g}'\n";
    let plan = plan(&[Document::parse("t", text)], "s");
    let labels: Vec<_> = plan.steps[0].actions.iter().map(|action| action.label.as_str()).collect();
    assert_eq!(labels, ["shadow u", "entity", "entity", "no group g"]);
    let said: Vec<_> = plan.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["t:12:15: error: there is no such kind of entity\n  hint: did you mean `group`?"]);
    assert!(
        matches!(&plan.steps[0].actions[1].work, Work::Accounts(AccountWork::EntityText { path: Some(path), .. }) if path.to_str() == Some("/tmp/passwd"))
    );
    assert!(!format!("{plan:?}").contains("hunter2"));
}
