use super::*;
use kairn_mesh_protocol::{Identity, Token};
use mainline::Testnet;

const TODAY: Wall = Wall(1_800_000_000_000);

fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    host.parse().map(|ip| vec![ip]).map_err(|_| format!("no address of {host}"))
}

fn settings(nodes: &[String]) -> DhtSettings {
    let parts = nodes.iter().filter_map(|node| node.rsplit_once(':'));
    let bootstrap = parts.map(|(host, port)| (host.to_owned(), port.parse().unwrap())).collect();
    DhtSettings { bootstrap, look_up: resolve }
}

fn a_visit(number: u8, secret: u8, settings: &DhtSettings) -> Visit {
    let token = Token::new([secret; 32], None);
    Visit {
        network: token.network(),
        epochs: vec![token.epoch()],
        time: (TODAY, true),
        node: Identity::from_seed(&[number; 32]).id(),
        addresses: vec![SocketAddr::from(([192, 0, 2, number], 7_946))],
        port: 7_946,
        fence: Fence::default(),
        known: Vec::new(),
        settings: settings.clone(),
    }
}

fn addresses(visited: &Visited) -> Vec<String> {
    let notices = visited.board.notices().iter();
    let mut addresses: Vec<_> = notices.flat_map(|notice| &notice.addresses).map(ToString::to_string).collect();
    addresses.sort();
    addresses
}

/// The nodes are of an implementation that shares no code with this one.
#[tokio::test]
async fn who_has_the_secret_finds_who_left_word_in_a_table_of_others_and_nobody_else_does() {
    let table = Testnet::builder(25).build().unwrap();
    let settings = settings(&table.bootstrap);
    let first = visit(a_visit(1, 1, &settings)).await;
    assert_eq!((&first.why, first.board.notices().len(), first.was_put), (&None, 0, true));
    assert!(first.kept_by >= 6, "{first:?}");
    assert!(first.sent + first.received < 40_000, "{} and {} bytes", first.sent, first.received);

    // The second finds the first, and both stand on the board then; nodes that answered before are enough to begin at.
    let unreachable = DhtSettings { bootstrap: vec![("nobody".to_owned(), 1)], look_up: resolve };
    let second = visit(Visit { known: first.nodes.clone(), ..a_visit(2, 1, &unreachable) }).await;
    assert_eq!((&second.why, addresses(&second)), (&None, vec!["192.0.2.1:7946".to_owned()]));
    assert!(second.was_put && second.kept_by > 0);
    let third = visit(a_visit(1, 1, &settings)).await;
    assert_eq!(addresses(&third), ["192.0.2.1:7946", "192.0.2.2:7946"]);
    // What it left is there still and says the same.
    assert!(!third.was_put);

    // Another day and another secret are other boards; with a doubtful clock the days beside it are read too.
    let tomorrow = Wall(TODAY.0 + 86_400_000);
    let late = visit(Visit { time: (tomorrow, true), ..a_visit(3, 1, &settings) }).await;
    assert_eq!(addresses(&late), Vec::<String>::new());
    let doubtful = visit(Visit { time: (tomorrow, false), ..a_visit(4, 1, &settings) }).await;
    assert_eq!(addresses(&doubtful), ["192.0.2.1:7946", "192.0.2.2:7946", "192.0.2.3:7946"]);
    let stranger = visit(a_visit(5, 2, &settings)).await;
    assert_eq!(addresses(&stranger), Vec::<String>::new());

    // A machine that was off while the secret changed has the one before; the others look there too.
    let token = Token::new([1; 32], None);
    let rotated = EpochKeys::rotated(1 << 16, &[9; 32]);
    let member = Visit { epochs: vec![rotated, token.epoch()], ..a_visit(6, 1, &settings) };
    visit(member).await;
    assert!(addresses(&visit(a_visit(7, 1, &settings)).await).contains(&"192.0.2.6:7946".to_owned()));
}

#[tokio::test]
async fn without_a_table_it_says_why_and_ends() {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = settings(&[nobody.local_addr().unwrap().to_string()]);
    let visited = visit(a_visit(1, 1, &silent)).await;
    assert_eq!(visited.why.as_deref(), Some("no node of the table answers"));
    assert!(visited.sent < 1_000 && !visited.was_put);
    let unknown = DhtSettings { bootstrap: vec![("nowhere".to_owned(), 1)], look_up: resolve };
    let visited = visit(a_visit(1, 1, &unknown)).await;
    assert_eq!(visited.why.as_deref(), Some("nowhere: no address of nowhere"));
    assert_eq!((visited.sent, visited.received), (0, 0));
}

#[tokio::test]
async fn what_a_liar_answers_is_bounded() {
    let liar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let settings = settings(&[liar.local_addr().unwrap().to_string()]);
    let flood = tokio::spawn(async move {
        let mut room = [0; 2_048];
        let mut asked = 0_u32;
        loop {
            let (length, from) = liar.recv_from(&mut room).await.unwrap();
            asked += 1;
            // Rubbish, a thousand times for each question.
            for _ in 0..1_000 {
                liar.send_to(&room[..length], from).await.unwrap();
            }
            if asked > 200 {
                return asked;
            }
        }
    });
    let visited = visit(a_visit(1, 1, &settings)).await;
    assert!(visited.why.is_some());
    assert!(!flood.is_finished());
    flood.abort();
}
