//! Messages of the table (BEP 5, 43, 44): the questions that this client asks, and what is read of answers. It answers nobody.

use super::bencode::{Value, Writer};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// The most bytes of an answer that are looked at.
pub const LARGEST: usize = 2_048;
/// The most nodes that are taken from one answer.
const MOST_NODES: usize = 16;
/// The longest token that is handed back.
const LONGEST_TOKEN: usize = 64;
/// The largest value of an item (BEP 44).
const LARGEST_VALUE: usize = 1_000;
/// What this program calls itself in questions (BEP 5: two letters and a version).
const PROGRAM: &[u8] = b"KN\0\x01";

/// The name of a node of the table, or of a place in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id(pub [u8; 20]);

impl Id {
    /// How far two are apart: their exclusive or.
    pub fn distance(&self, other: &Self) -> [u8; 20] {
        let mut pairs = self.0.iter().zip(other.0);
        std::array::from_fn(|_| pairs.next().map_or(0, |(one, other)| one ^ other))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// The place of an item.
pub type Target = Id;

/// A node of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub id: Id,
    /// Where it is.
    pub address: SocketAddrV4,
}

/// A mutable item (BEP 44), without a salt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The public key that it is under.
    pub key: [u8; 32],
    /// Which version it is: later ones are higher.
    pub seq: i64,
    /// What it says.
    pub value: Vec<u8>,
    /// The key's word for it.
    pub signature: [u8; 64],
}

impl Item {
    /// The place of the item of a key.
    pub fn target(key: &[u8; 32]) -> Target {
        Id(Sha1::digest(key).into())
    }

    /// What is signed.
    pub fn statement(seq: i64, value: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.name("seq").number(seq).name("v").bytes(value);
        writer.0
    }

    /// Whether its key signed it.
    pub fn is_signed(&self) -> bool {
        VerifyingKey::from_bytes(&self.key).is_ok_and(|key| {
            let text = Self::statement(self.seq, &self.value);
            key.verify_strict(&text, &Signature::from_bytes(&self.signature)).is_ok()
        })
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query<'a> {
    /// Who is near a place.
    Find(Target),
    /// What is at a place, and who is near it.
    Get(Target),
    /// Have this item, with the token that came with an answer.
    Put(&'a Item, &'a [u8]),
}

impl Query<'_> {
    /// The question as bytes: from `own`, numbered.
    pub fn encode(&self, own: &Id, number: [u8; 4]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(|message| {
            message.name("a").map(|arguments| self.arguments(own, arguments));
            let name = match self {
                Self::Find(_) => "find_node",
                Self::Get(_) => "get",
                Self::Put(..) => "put",
            };
            message.name("q").name(name);
            // Read-only (BEP 43): nobody is to keep this node and ask it later.
            message.name("ro").number(1);
            message.name("t").bytes(&number).name("v").bytes(PROGRAM).name("y").name("q");
        });
        writer.0
    }

    fn arguments(&self, own: &Id, arguments: &mut Writer) {
        arguments.name("id").bytes(&own.0);
        match self {
            Self::Find(target) | Self::Get(target) => {
                arguments.name("target").bytes(&target.0);
            }
            Self::Put(item, token) => {
                arguments.name("k").bytes(&item.key).name("seq").number(item.seq);
                // BEP 44 has no target here; some nodes drop what has none, and others pass it over.
                arguments.name("sig").bytes(&item.signature).name("target").bytes(&Item::target(&item.key).0);
                arguments.name("token").bytes(token).name("v").bytes(&item.value);
            }
        }
    }
}

/// What an answer brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who answers.
    pub id: Id,
    /// Nodes that it names.
    pub nodes: Vec<Node>,
    /// What a later `put` to it has to show.
    pub token: Option<Vec<u8>>,
    /// The item that it has; the signature is not looked at yet.
    pub item: Option<Item>,
    /// Where it sees this node (BEP 42).
    pub seen: Option<SocketAddr>,
}

/// A reply to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The number of the question.
    pub number: [u8; 4],
    /// The answer, or the code of the error.
    pub answer: Result<Answer, i64>,
}

impl Reply {
    /// Reads a reply; nothing where it is none that could be to this client.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LARGEST {
            return None;
        }
        let message = Value::read(bytes)?;
        let number = message.get("t")?.array()?;
        match message.get("y")?.bytes()? {
            b"r" => {
                let said = message.get("r")?;
                let answer = Answer {
                    id: Id(said.get("id")?.array()?),
                    nodes: said.get("nodes").and_then(Value::bytes).map(nodes).unwrap_or_default(),
                    token: said
                        .get("token")
                        .and_then(Value::bytes)
                        .filter(|token| token.len() <= LONGEST_TOKEN)
                        .map(<[u8]>::to_vec),
                    item: item(said),
                    seen: message.get("ip").and_then(Value::bytes).and_then(seen),
                };
                Some(Self { number, answer: Ok(answer) })
            }
            b"e" => {
                let code = match message.get("e") {
                    Some(Value::List(parts)) => parts.first().and_then(Value::number).unwrap_or_default(),
                    _ => 0,
                };
                Some(Self { number, answer: Err(code) })
            }
            _ => None,
        }
    }
}

/// 26 bytes each: the name, the address, the port (BEP 5, "compact node info").
fn nodes(bytes: &[u8]) -> Vec<Node> {
    let read = |bytes: &[u8]| {
        let (id, rest) = bytes.split_first_chunk::<20>()?;
        Some(Node { id: Id(*id), address: compact(rest)? })
    };
    bytes.chunks_exact(26).take(MOST_NODES).filter_map(read).collect()
}

fn compact(bytes: &[u8]) -> Option<SocketAddrV4> {
    let (ip, port) = bytes.split_first_chunk::<4>()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(*ip), u16::from_be_bytes(port.try_into().ok()?)))
}

fn seen(bytes: &[u8]) -> Option<SocketAddr> {
    match bytes.len() {
        6 => compact(bytes).map(Into::into),
        _ => None,
    }
}

fn item(said: &Value<'_>) -> Option<Item> {
    let value = said.get("v")?.bytes().filter(|value| value.len() <= LARGEST_VALUE)?.to_vec();
    let (key, signature) = (said.get("k")?.array()?, said.get("sig")?.array()?);
    Some(Item { key, seq: said.get("seq")?.number()?, value, signature })
}
