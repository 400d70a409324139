//! Every cloud as its documentation describes it, served on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
// Tests may fail by panicking and tell on stderr why they skip.

mod service;

use kairn_datasource::{Error, Found, Hints, NetworkFormat, Options, ProviderName, fetch};
use kairn_report::Secret;
use service::{Service, nothing, ok, options, status};

fn asked(options: &Options, hints: &Hints) -> Result<Found, Error> {
    fetch(options, hints, &mut Vec::new())
}

fn user(found: &Found) -> Option<&[u8]> {
    found.user_data.as_ref().map(|data| data.reveal().as_slice())
}

fn addresses(found: &Found) -> (Vec<String>, Vec<String>) {
    let text = |list: &[std::net::IpAddr]| list.iter().map(ToString::to_string).collect();
    (text(&found.local_addresses), text(&found.public_addresses))
}

const EC2: [(&str, &str); 12] = [
    ("PUT /latest/api/token", "token-1"),
    ("/latest/meta-data/instance-id", "i-0abc"),
    ("/latest/meta-data/hostname", "ip-10-0-0-1.ec2.internal\n"),
    ("/latest/meta-data/local-hostname", "ip-10-0-0-1"),
    ("/latest/meta-data/local-ipv4", "10.0.0.1"),
    ("/latest/meta-data/public-ipv4", "192.0.2.7"),
    ("/latest/meta-data/placement/availability-zone", "eu-west-1a"),
    ("/latest/meta-data/placement/region", "eu-west-1"),
    ("/latest/meta-data/instance-type", "t3.small"),
    ("/latest/meta-data/public-keys/", "0=mine\n"),
    ("/latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA mine\n"),
    ("/latest/user-data", "#cloud-config\nhostname: {{ trunc 4 .MachineID }}\n"),
];

#[test]
fn aws_is_asked_with_a_session_token() {
    let service = Service::fixed(&EC2);
    let found = asked(&options(ProviderName::Aws, &service.base), &nothing()).unwrap();
    assert_eq!(found.instance_id.as_deref(), Some("i-0abc"));
    assert_eq!(found.hostname.as_deref(), Some("ip-10-0-0-1.ec2.internal"));
    assert_eq!(addresses(&found), (vec!["10.0.0.1".into()], vec!["192.0.2.7".into()]));
    assert_eq!((found.region.as_deref(), found.zone.as_deref()), (Some("eu-west-1"), Some("eu-west-1a")));
    assert_eq!(found.ssh_keys, ["ssh-ed25519 AAAA mine"]);
    assert_eq!(user(&found), Some(&b"#cloud-config\nhostname: {{ trunc 4 .MachineID }}\n"[..]));
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    let asked = service.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("PUT", "/latest/api/token"));
    assert!(asked[0].headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds"));
    assert!(asked[1..].iter().all(|asked| asked.headers["x-aws-ec2-metadata-token"] == "token-1"), "{asked:?}");
}

#[test]
fn aws_without_tokens_is_asked_as_of_old_and_only_then() {
    for (code, works) in [(404, true), (405, true), (403, false), (500, false)] {
        let service = Service::start(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
            ("PUT", _) => status(code),
            (_, "/latest/meta-data/instance-id") => ok("i-1"),
            _ => status(404),
        });
        let found = asked(&options(ProviderName::Aws, &service.base), &nothing());
        match found {
            Ok(found) => {
                assert!(works, "{code}");
                // Metadata without user-data is an answer.
                assert_eq!((user(&found), found.warnings.len()), (None, 1));
            }
            Err(error) => {
                assert!(!works && error.to_string().contains(&format!("status {code}")), "{error}");
                assert_eq!(service.asked().len(), 1);
            }
        }
    }
}

#[test]
fn openstack_is_asked_for_its_own_format_first() {
    let meta = r#"{"uuid": "u-1", "hostname": "os.local", "availability_zone": "nova", "public_keys": {"a": "ssh-rsa A a\n"},
        "keys": [{"type": "ssh", "data": "ssh-rsa B b"}, {"type": "x509", "data": "no"}], "meta": {"role": "web"}, "admin_pass": "hunter2"}"#;
    let service = Service::fixed(&[
        ("/openstack/latest/meta_data.json", meta),
        ("/openstack/latest/user_data", ""),
        ("/openstack/latest/network_data.json", "{\"links\": []}"),
        ("/openstack/latest/vendor_data.json", "{\"cloud-init\": \"#cloud-config\\nv: 1\\n\", \"other\": {}}"),
        ("/latest/meta-data/local-ipv4", "10.0.0.2"),
    ]);
    let found = asked(&options(ProviderName::OpenStack, &service.base), &nothing()).unwrap();
    assert_eq!((found.instance_id.as_deref(), found.hostname.as_deref()), (Some("u-1"), Some("os.local")));
    assert_eq!(found.ssh_keys, ["ssh-rsa A a", "ssh-rsa B b"]);
    // Empty user-data is user-data.
    assert_eq!(user(&found), Some(&b""[..]));
    assert_eq!(found.vendor_data, Some(Secret::new(b"#cloud-config\nv: 1\n".to_vec())));
    assert_eq!(found.network_config.as_ref().unwrap().format, NetworkFormat::OpenStack);
    assert_eq!(found.meta["meta.role"], "web");
    assert!(!format!("{found:?}").contains("hunter2"));

    let old = Service::fixed(&EC2);
    let found = asked(&options(ProviderName::OpenStack, &old.base), &nothing()).unwrap();
    assert_eq!((found.instance_id.as_deref(), found.ssh_keys.len()), (Some("i-0abc"), 1));
    assert!(user(&found).unwrap().starts_with(b"#cloud-config"));
}

#[test]
fn hetzner_lists_its_keys_as_json() {
    let service = Service::fixed(&[
        ("/latest/meta-data/instance-id", "42"),
        ("/latest/meta-data/hostname", "h"),
        ("/latest/meta-data/public-keys", "[\"ssh-rsa A a\", \"ssh-rsa B b\"]"),
        ("/hetzner/v1/metadata/network-config", "version: 1\n"),
        ("/hetzner/v1/metadata/region", "eu-central"),
        ("/latest/user-data", "#!/bin/sh\n"),
    ]);
    let found = asked(&options(ProviderName::Hetzner, &service.base), &nothing()).unwrap();
    assert_eq!(found.ssh_keys, ["ssh-rsa A a", "ssh-rsa B b"]);
    assert_eq!((found.region.as_deref(), user(&found)), (Some("eu-central"), Some(&b"#!/bin/sh\n"[..])));
    let network = found.network_config.unwrap();
    assert_eq!((network.format, network.text.reveal().as_str()), (NetworkFormat::NetworkConfig, "version: 1\n"));
}

#[test]
fn gcp_wants_its_header_and_gives_keys_of_instance_and_project() {
    let base = "/computeMetadata/v1/";
    let pages = [
        ("instance/id", "123"),
        ("instance/hostname", "g.c.project.internal"),
        ("instance/zone", "projects/1/zones/europe-west1-b"),
        ("instance/machine-type", "projects/1/machineTypes/e2-small"),
        ("instance/network-interfaces/0/ip", "10.128.0.2"),
        ("instance/attributes/ssh-keys", "root:ssh-rsa A a"),
        ("project/attributes/ssh-keys", "bob:ssh-rsa B b\nssh-rsa C c"),
        ("instance/attributes/user-data", "I2Nsb3VkLWNv\nbmZpZwo="),
        ("instance/attributes/user-data-encoding", "base64"),
    ];
    let service = Service::start(move |asked| {
        if asked.headers.get("metadata-flavor").is_none_or(|value| value != "Google") {
            return status(403);
        }
        let page = asked.path.strip_prefix(base).and_then(|path| pages.iter().find(|(name, _)| *name == path));
        page.map_or_else(|| status(404), |(_, body)| ok(*body))
    });
    let found = asked(&options(ProviderName::Gcp, &service.base), &nothing()).unwrap();
    assert_eq!((found.zone.as_deref(), found.region.as_deref()), (Some("europe-west1-b"), Some("europe-west1")));
    assert_eq!(found.instance_type.as_deref(), Some("e2-small"));
    assert_eq!(found.ssh_keys, ["ssh-rsa A a", "ssh-rsa B b", "ssh-rsa C c"]);
    assert_eq!(user(&found), Some(&b"#cloud-config\n"[..]));
}

const AZURE: &str = r#"{"compute": {"vmId": "vm-1", "name": "az", "location": "westeurope", "vmSize": "B1s", "userData": "",
    "publicKeys": [{"keyData": "ssh-rsa AAAA\r\nBBBB a\r\n", "path": "/x"}]},
    "network": {"interface": [{"ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.4", "publicIpAddress": "192.0.2.4"}]}}]}}"#;
const GOAL: &str = "<?xml version=\"1.0\"?><GoalState><Incarnation>3</Incarnation><Container><ContainerId>c-1</ContainerId>\
    <RoleInstanceList><RoleInstance><InstanceId>i-1</InstanceId></RoleInstance></RoleInstanceList></Container></GoalState>";

#[test]
fn azure_is_told_that_the_machine_is_ready() {
    let service = Service::fixed(&[
        ("/metadata/instance?api-version=2021-01-01&format=json", AZURE),
        ("/metadata/instance/compute/userData?api-version=2021-01-01&format=text", "I2Nsb3VkLWNvbmZpZwo="),
    ]);
    let wire = Service::fixed(&[("/machine/?comp=goalstate", GOAL), ("POST /machine/?comp=health", "")]);
    let options = Options { azure_wire: Some(wire.base.clone()), ..options(ProviderName::Azure, &service.base) };
    let found = asked(&options, &nothing()).unwrap();
    assert_eq!((found.instance_id.as_deref(), found.hostname.as_deref()), (Some("vm-1"), Some("az")));
    assert_eq!(found.ssh_keys, ["ssh-rsa AAAABBBB a"]);
    assert_eq!(addresses(&found), (vec!["10.0.0.4".into()], vec!["192.0.2.4".into()]));
    assert_eq!(user(&found), Some(&b"#cloud-config\n"[..]));
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    assert!(service.asked().iter().all(|asked| asked.headers["metadata"] == "true"));
    let told = &wire.asked()[1];
    assert_eq!((told.method.as_str(), told.path.as_str()), ("POST", "/machine/?comp=health"));
    for piece in ["<GoalStateIncarnation>3<", "<ContainerId>c-1<", "<InstanceId>i-1<", "<State>Ready<"] {
        assert!(told.body.contains(piece), "{}", told.body);
    }

    // A wire server that does not answer is worth a warning only.
    let options = Options { azure_wire: Some(Service::start(|_| status(500)).base), ..options };
    let found = asked(&options, &nothing()).unwrap();
    assert!(found.warnings[0].starts_with("Azure was not told that the machine is ready"), "{:?}", found.warnings);
}

#[test]
fn digitalocean_vultr_and_metaldata_speak_plainly() {
    let service = Service::fixed(&[
        ("/metadata/v1/id", "7"),
        ("/metadata/v1/hostname", "do"),
        ("/metadata/v1/region", "ams3"),
        ("/metadata/v1/interfaces/public/0/ipv4/address", "192.0.2.1"),
        ("/metadata/v1/interfaces/private/0/ipv4/address", "10.0.0.1"),
        ("/metadata/v1/public-keys", "ssh-rsa A a\nssh-rsa B b\n"),
        ("/metadata/v1/user-data", "#cloud-config\n"),
    ]);
    let found = asked(&options(ProviderName::DigitalOcean, &service.base), &nothing()).unwrap();
    assert_eq!(
        (found.instance_id.as_deref(), found.region.as_deref(), found.ssh_keys.len()),
        (Some("7"), Some("ams3"), 2)
    );
    assert_eq!(addresses(&found), (vec!["10.0.0.1".into()], vec!["192.0.2.1".into()]));
    assert_eq!(user(&found), Some(&b"#cloud-config\n"[..]));

    let service = Service::fixed(&[
        ("/v1/instanceid", "a7"),
        ("/v1/instance-v2-id", "36e9"),
        ("/v1/hostname", "v"),
        ("/v1/region/regioncode", "EWR"),
        ("/v1/interfaces/0/ipv4/address", "192.0.2.2"),
        ("/v1/public-keys", "ssh-rsa A a"),
        ("/latest/user-data", "#cloud-config\nv: 1\n"),
    ]);
    let found = asked(&options(ProviderName::Vultr, &service.base), &nothing()).unwrap();
    assert_eq!((found.instance_id.as_deref(), found.region.as_deref()), (Some("36e9"), Some("EWR")));
    assert_eq!(user(&found), Some(&b"#cloud-config\nv: 1\n"[..]));

    let service = Service::fixed(&[
        ("/get/meta/hostname", "m"),
        ("/get/meta/machine-id", "id-1"),
        ("/get/meta/failure-domain", "rack-1"),
        ("/get/meta/authorized-keys", "ssh-rsa A a"),
        ("/get/user", "#cloud-config\n"),
    ]);
    let found = asked(&options(ProviderName::Metaldata, &service.base), &nothing()).unwrap();
    assert_eq!((found.instance_id.as_deref(), found.zone.as_deref()), (Some("id-1"), Some("rack-1")));
}

#[test]
fn packet_leaves_scripts_of_the_firmware_alone() {
    let metadata = r#"{"id": "p-1", "hostname": "p", "plan": "c3", "facility": "ams1", "metro": "am", "ssh_keys": ["ssh-rsa A a"],
        "network": {"addresses": [{"address": "192.0.2.3", "public": true}, {"address": "10.0.0.3", "public": false}]}}"#;
    for (userdata, expected) in [("#!ipxe\nboot\n", None), ("#cloud-config\n", Some(&b"#cloud-config\n"[..]))] {
        let service = Service::fixed(&[("/metadata", metadata), ("/userdata", userdata)]);
        let found = asked(&options(ProviderName::Packet, &service.base), &nothing()).unwrap();
        assert_eq!((found.zone.as_deref(), user(&found)), (Some("ams1"), expected));
        assert_eq!(addresses(&found), (vec!["10.0.0.3".into()], vec!["192.0.2.3".into()]));
    }
}

#[test]
fn scaleway_is_asked_for_user_data_from_a_low_port() {
    let conf = "ID=s-1\nHOSTNAME='scw'\nSSH_PUBLIC_KEYS_0_KEY=\"ssh-rsa A a\"\nPRIVATE_IP=10.0.0.5\nTAGS=0\nSECRET_KEY=hunter2\n";
    let service = Service::start(move |asked| match asked.path.as_str() {
        "/conf" => ok(conf),
        "/user_data/cloud-init" if asked.from.port() < 1024 => ok("#cloud-config\n"),
        "/user_data/cloud-init" => status(403),
        _ => status(404),
    });
    let found = asked(&options(ProviderName::Scaleway, &service.base), &nothing());
    let found = match found {
        Err(error) if error.to_string().contains("ermission denied") => {
            eprintln!("skipped: ports below 1024 need root");
            return;
        }
        found => found.unwrap(),
    };
    assert_eq!((found.instance_id.as_deref(), found.hostname.as_deref()), (Some("s-1"), Some("scw")));
    assert_eq!(found.ssh_keys, ["ssh-rsa A a"]);
    assert_eq!(user(&found), Some(&b"#cloud-config\n"[..]));
    assert!(!found.meta.contains_key("SECRET_KEY"));
}

#[test]
fn maas_is_found_by_the_kernel_command_line_and_asked_with_a_signature() {
    let service = Service::start(|asked| {
        let base = format!("http://{}", asked.headers["host"]);
        let preseed = format!(
            "#cloud-config\ndatasource:\n  MAAS:\n    consumer_key: ck\n    metadata_url: {base}/MAAS/metadata/\n    token_key: tk\n    token_secret: ts\n"
        );
        let signed =
            asked.headers.get("authorization").is_some_and(|header| header.contains("oauth_signature=\"%26ts\""));
        match asked.path.as_str() {
            "/preseed?op=get" => ok(preseed),
            _ if !signed => status(401),
            "/MAAS/metadata/2012-03-01/meta-data/instance-id" => ok("m-1"),
            "/MAAS/metadata/2012-03-01/meta-data/local-hostname" => ok("node\n"),
            "/MAAS/metadata/2012-03-01/meta-data/public-keys" => ok("ssh-rsa A a\n"),
            "/MAAS/metadata/2012-03-01/user-data" => ok("#cloud-config\n"),
            _ => status(404),
        }
    });
    let mut hints = Hints::default();
    hints.cmdline(&format!("cloud-config-url={}/preseed?op=get", service.base));
    let options = Options { bases: [].into(), ..options(ProviderName::Maas, "") };
    let found = asked(&options, &hints).unwrap();
    assert_eq!((found.instance_id.as_deref(), found.hostname.as_deref()), (Some("m-1"), Some("node")));
    assert_eq!(user(&found), Some(&b"#cloud-config\n"[..]));
}

#[test]
fn a_seed_that_the_kernel_command_line_names_is_read_whole() {
    let service = Service::fixed(&[
        ("/seed/?f=meta-data", "instance-id: n-1\npublic-keys: [ssh-rsa A a]\n"),
        ("/seed/?f=user-data", "#cloud-config\n"),
        ("/seed/?f=vendor-data", "#cloud-config\nv: 1\n"),
        ("/seed/?f=network-config", "version: 2\n"),
    ]);
    let mut hints = Hints::default();
    hints.cmdline(&format!("\"ds=nocloud;s={}/seed/?f=;h=node;i=other\"", service.base));
    let options = Options { bases: [].into(), ..options(ProviderName::Aws, "") };
    let found = asked(&options, &hints).unwrap();
    assert_eq!(found.provider, ProviderName::NoCloud);
    assert_eq!((found.instance_id.as_deref(), found.hostname.as_deref()), (Some("n-1"), Some("node")));
    assert_eq!((found.ssh_keys.len(), found.vendor_data.is_some()), (1, true));
    assert_eq!(found.network_config.unwrap().text.reveal(), "version: 2\n");
}
