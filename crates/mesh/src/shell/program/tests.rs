use super::*;
use kairn_mesh_protocol::shell::{Terminal, WINDOW};
use tokio::task::JoinHandle;

/// A member's end, and the program's.
async fn begin(terminal: Option<Terminal>, command: &[&str]) -> (UnixStream, JoinHandle<io::Result<()>>) {
    let (mut here, there) = UnixStream::pair().unwrap();
    let request = Request { terminal, command: command.iter().map(|word| (*word).to_owned()).collect() };
    let serving = tokio::spawn(async move { serve(there, Path::new("/"), "a test").await });
    frames::write(&mut here, &Frame::Begin(request)).await.unwrap();
    (here, serving)
}

fn terminal() -> Option<Terminal> {
    Some(Terminal { name: "dumb".into(), size: Size { columns: 87, rows: 21 } })
}

/// Everything that is said until the end: output, errors, last word.
async fn all(stream: &mut UnixStream) -> (String, String, Frame) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    loop {
        match timeout(Duration::from_secs(60), frames::read(stream)).await.unwrap().unwrap().unwrap() {
            Frame::Output(data) => output.extend(data),
            Frame::Errors(data) => errors.extend(data),
            Frame::Taken(_) => {}
            last => return (String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap(), last),
        }
    }
}

#[tokio::test]
async fn a_command_has_three_streams_and_its_arguments_as_they_are() {
    let (mut stream, serving) = begin(None, &["sh", "-c", "cat; echo \"$1\" >&2; exit 7", "x", "a  b"]).await;
    frames::write(&mut stream, &Frame::Input(b"read\n".to_vec())).await.unwrap();
    frames::write(&mut stream, &Frame::InputEnd).await.unwrap();
    assert_eq!(all(&mut stream).await, ("read\n".to_owned(), "a  b\n".to_owned(), Frame::Ended(7)));
    drop(stream);
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_command_on_a_terminal_learns_its_size_and_gets_what_is_typed() {
    let script = "stty size; read line; stty size; echo \"$line $TERM $KAIRN_SHELL\"";
    let (mut stream, _serving) = begin(terminal(), &["sh", "-c", script]).await;
    let first = frames::read(&mut stream).await.unwrap();
    let Some(Frame::Output(first)) = first else { return eprintln!("skipped: no terminals: {first:?}") };
    assert_eq!(String::from_utf8(first).unwrap(), "21 87\r\n");
    frames::write(&mut stream, &Frame::Resize(Size { columns: 100, rows: 30 })).await.unwrap();
    frames::write(&mut stream, &Frame::Input(b"typed\n".to_vec())).await.unwrap();
    let (output, _, last) = all(&mut stream).await;
    assert_eq!((output.as_str(), last), ("typed\r\n30 100\r\ntyped dumb a test\r\n", Frame::Ended(0)));
}

#[tokio::test]
async fn a_signal_ends_a_command_that_does_not_read_its_input() {
    let (mut stream, _serving) = begin(None, &["sleep", "600"]).await;
    for _ in 0..WINDOW / 32_768 {
        frames::write(&mut stream, &Frame::Input(vec![b'x'; 32_768])).await.unwrap();
    }
    frames::write(&mut stream, &Frame::Signal(15)).await.unwrap();
    assert_eq!(all(&mut stream).await.2, Frame::Killed(15));
}

#[tokio::test]
async fn who_sends_more_than_the_window_is_not_served_any_more() {
    let (mut stream, serving) = begin(None, &["sleep", "600"]).await;
    // A pipe that nobody reads takes two of them beyond the window.
    for _ in 0..WINDOW / 32_768 + 8 {
        // What breaks off in the middle is seen below.
        if frames::write(&mut stream, &Frame::Input(vec![b'x'; 32_768])).await.is_err() {
            break;
        }
    }
    assert!(serving.await.unwrap().is_err());
}

#[tokio::test]
async fn what_the_member_does_not_read_is_not_written() {
    let (mut stream, _serving) = begin(None, &["head", "-c", "100000000", "/dev/zero"]).await;
    // It cannot end before somebody reads: all that is between them is full long before.
    frames::write(&mut stream, &Frame::Signal(15)).await.unwrap();
    let (output, _, last) = all(&mut stream).await;
    assert!(last == Frame::Killed(15) && output.len() < 2_000_000, "{last:?} after {} bytes", output.len());
}

#[tokio::test]
async fn a_member_that_is_gone_ends_the_program_and_all_of_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, term) = (dir.path().join("alive"), terminal());
    for terminal in [None, term] {
        let script = format!("trap '' HUP; mkfifo {0}; echo ready; exec 3<>{0}; sleep 600 & wait", alive.display());
        let (mut stream, serving) = begin(terminal, &["sh", "-c", &script]).await;
        let Some(Frame::Output(said)) = frames::read(&mut stream).await.unwrap() else { return eprintln!("skipped") };
        assert!(said.starts_with(b"ready"));
        drop(stream);
        timeout(Duration::from_secs(60), serving).await.unwrap().unwrap().unwrap();
        // Nobody has it open any more: neither the shell nor what it started.
        let open = rustix::fs::open(
            &alive,
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK,
            rustix::fs::Mode::empty(),
        );
        let closed = async {
            while let Ok(fd) = &open {
                // A reader that is being killed may be there for a moment.
                match rustix::io::write(fd, b"x") {
                    Err(rustix::io::Errno::PIPE) => return,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        timeout(Duration::from_secs(60), closed).await.unwrap();
        std::fs::remove_file(&alive).unwrap();
    }
}

#[tokio::test]
async fn without_a_command_it_is_a_login_shell_and_an_absent_one_is_said() {
    let (mut stream, _serving) = begin(None, &[]).await;
    frames::write(&mut stream, &Frame::Input(b"echo $0 $HOME\n".to_vec())).await.unwrap();
    frames::write(&mut stream, &Frame::InputEnd).await.unwrap();
    let (output, _, last) = all(&mut stream).await;
    assert!(output.contains('-') && last == Frame::Ended(0), "{output}");
    let (mut stream, _serving) = begin(None, &["/no/such/program"]).await;
    let Frame::Failed(why) = all(&mut stream).await.2 else { panic!() };
    assert!(why.contains("/no/such/program"), "{why}");
}

#[tokio::test]
async fn whoever_still_speaks_after_the_last_word_is_heard_out() {
    for (command, is_last) in [
        (["/no/such/program"].as_slice(), (|last| matches!(last, Frame::Failed(_))) as fn(&Frame) -> bool),
        (["true"].as_slice(), |last| *last == Frame::Ended(0)),
    ] {
        let (mut stream, serving) = begin(None, command).await;
        let last = all(&mut stream).await.2;
        assert!(is_last(&last), "{last:?}");
        for _ in 0..3 {
            frames::write(&mut stream, &Frame::Input(vec![b'x'; 32_768])).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(stream);
        serving.await.unwrap().unwrap();
    }
}
