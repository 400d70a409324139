//! The shell that a machine lends to members of its mesh, between two machines that are network namespaces on one cable.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and says why it is skipped"
)]

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const KAIRN: &str = env!("CARGO_BIN_EXE_kairn");
/// Nothing takes that long, even on a machine that is busy with everything else.
const DEADLINE: Duration = Duration::from_secs(180);

fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let said = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(said.status.success(), "`{line}`: {}", text(&said.stderr));
    text(&said.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until something is as wanted.
fn until<T: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let seen = look();
        if wanted(&seen) {
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: {seen:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Machines on a bridge, of which the first may be in recovery. All go when it is dropped.
struct Lan {
    name: String,
    machines: usize,
    dir: tempfile::TempDir,
}

impl Lan {
    /// `None`, with the reason printed, where this machine does not permit one.
    fn new(machines: usize) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let skip = |why: &str| {
            eprintln!("skipped: {why}");
            None
        };
        let name = format!("ks{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        match Command::new("ip").args(["netns", "add", &format!("{name}s")]).output() {
            Ok(said) if said.status.success() => {}
            Ok(said) => return skip(&format!("no network namespaces: {}", text(&said.stderr).trim())),
            Err(error) => return skip(&format!("`ip` does not run: {error}")),
        }
        let lan = Self { name, machines, dir: tempfile::tempdir().unwrap() };
        let switch = format!("{}s", lan.name);
        run(&format!("ip -n {switch} link add br0 type bridge"));
        run(&format!("ip -n {switch} link set br0 up"));
        for machine in 1..=machines {
            let here = lan.namespace(machine);
            run(&format!("ip netns add {here}"));
            run(&format!("ip -n {here} link set lo up"));
            run(&format!("ip -n {here} link add eth0 type veth peer name p{machine} netns {switch}"));
            run(&format!("ip -n {switch} link set p{machine} master br0 up"));
            run(&format!("ip -n {here} link set eth0 up"));
            run(&format!("ip -n {here} address add 192.0.2.{machine}/24 dev eth0"));
        }
        let key = lan.path("admin");
        std::fs::write(lan.path("token"), run(&format!("{KAIRN} mesh token --admin-key {}", key.display()))).unwrap();
        std::fs::write(lan.path("stranger"), run(&format!("{KAIRN} mesh token"))).unwrap();
        run(&format!("{KAIRN} mesh token --admin-key {}", lan.path("other-admin").display()));
        Some(lan)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn namespace(&self, machine: usize) -> String {
        format!("{}n{machine}", self.name)
    }

    /// Starts a node. In recovery its machine has the mark of that, in a /run of its own.
    fn start(&self, machine: usize, name: &str, is_recovery: bool, token: &str, options: &[&str]) -> Node<'_> {
        let dir = self.path(&format!("node-{machine}"));
        let console = self.path(&format!("console-{machine}"));
        std::fs::write(&console, "").unwrap();
        let mark = if is_recovery { "mkdir /run/cos && echo 1 > /run/cos/recovery_mode &&" } else { "" };
        let script = format!("hostname {name} && mount -t tmpfs none /run && {mark} exec \"$@\"");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(machine), "unshare", "--uts", "--mount", "sh", "-c", &script]);
        command.args(["sh", KAIRN, "--log", "info", "mesh", "up", "--no-vpn", "--token-file"]).arg(self.path(token));
        command.arg("--state-dir").arg(&dir).arg("--console").arg(&console).args(options);
        let log = std::fs::File::create(self.path(&format!("log-{machine}"))).unwrap();
        Node { lan: self, machine, dir, console, process: command.stderr(log).spawn().unwrap() }
    }

    /// Two nodes that know each other.
    fn pair(&self, is_recovery: bool, options: &[&str]) -> [Node<'_>; 2] {
        let pair =
            [self.start(1, "edge-1", is_recovery, "token", options), self.start(2, "edge-2", false, "token", &[])];
        pair.iter().for_each(Node::knows_another);
        pair
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in (1..=self.machines).map(|machine| self.namespace(machine)).chain([format!("{}s", self.name)]) {
            match Command::new("ip").args(["netns", "del", &name]).output() {
                Ok(said) if said.status.success() => {}
                other => eprintln!("the namespace {name} stays: {other:?}"),
            }
        }
    }
}

struct Node<'a> {
    lan: &'a Lan,
    machine: usize,
    dir: PathBuf,
    console: PathBuf,
    process: Child,
}

impl Node<'_> {
    fn status(&self) -> Value {
        let said =
            Command::new(KAIRN).args(["mesh", "status", "--output", "json", "--state-dir"]).arg(&self.dir).output();
        serde_json::from_slice(&said.unwrap().stdout).unwrap_or_default()
    }

    fn knows_another(&self) {
        until("another node", || self.status(), |status| status["peers"][0]["state"] == "alive");
    }

    /// `kairn mesh shell edge-1` from here.
    fn shell(&self, options: &[&str], command: &[&str]) -> Command {
        let mut shell = Command::new(KAIRN);
        shell.args(["mesh", "shell", "edge-1", "--state-dir"]).arg(&self.dir).args(options);
        if !command.is_empty() {
            shell.arg("--").args(command);
        }
        shell
    }

    fn as_administrator(&self, command: &[&str]) -> Command {
        self.shell(&["--admin-key", self.lan.path("admin").to_str().unwrap()], command)
    }

    fn with_code(&self, code: &str, command: &[&str]) -> Output {
        let file = self.lan.path("code");
        std::fs::write(&file, code).unwrap();
        self.shell(&["--code-file", file.to_str().unwrap()], command).output().unwrap()
    }

    fn console(&self) -> String {
        std::fs::read_to_string(&self.console).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.lan.path(&format!("log-{}", self.machine))).unwrap()
    }

    /// The codes that the console has shown, the newest last.
    fn codes(&self) -> Vec<String> {
        self.console()
            .split("code ")
            .skip(1)
            .filter_map(|rest| Some(rest.split_whitespace().next()?.to_owned()))
            .filter(|code| code.len() == 19)
            .collect()
    }

    /// The newest code, once so many were shown.
    fn code(&self, count: usize) -> String {
        until("the code", || self.codes(), |codes| codes.len() >= count).pop().unwrap()
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- node {}\n{}--- its console\n{}", self.machine, self.log(), self.console());
        }
        run(&format!("kill -TERM {}", self.process.id()));
        self.process.wait().unwrap();
    }
}

fn refused(said: &Output, why: &str) {
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    assert!(text(&said.stderr).contains(why), "{why}: {said:?}");
}

#[test]
fn a_code_opens_the_shell_of_a_machine_in_recovery_once() {
    let Some(lan) = Lan::new(2) else { return };
    let [one, other] = lan.pair(true, &[]);
    let code = one.code(1);
    let wrong = "aaaa-aaaa-aaaa-aaaa";
    refused(&other.with_code(wrong, &["true"]), "this is not the code");
    let script = "echo out; echo err >&2; test \"$(cat /proc/sys/kernel/hostname)\" = edge-1 && exit 7";
    let said = other.with_code(&code, &["sh", "-c", script]);
    assert_eq!((said.status.code(), text(&said.stdout), text(&said.stderr)), (Some(7), "out\n".into(), "err\n".into()));
    // It is used up, and the next one is on the console.
    let next = one.code(2);
    assert_ne!(code, next);
    refused(&other.with_code(&code, &["true"]), "this is not the code");
    // A member that was wrong three times is not listened to any more, and an administrator is.
    for _ in 0..2 {
        refused(&other.with_code(wrong, &["true"]), "this is not the code");
    }
    refused(&other.with_code(&next, &["true"]), "it looks at no other for ten minutes");
    assert!(other.as_administrator(&["true"]).status().unwrap().success());
    // Who, from where, and for how long is said; no code is in the log.
    let (log, console) = (one.log(), one.console());
    for part in ["a shell of this machine is opened", "with the code", "administrator", "has ended", "gets no shell"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(console.contains("opened by") && console.contains("(edge-2) with the code"), "{console}");
    assert!(![&code, &next].iter().any(|code| log.contains(code.as_str())), "{log}");
    let counters = &one.status()["counters"];
    assert_eq!((&counters["shells_opened"], &counters["shells_refused"]), (&2.into(), &5.into()), "{counters}");
}

#[test]
fn who_may_have_a_shell_and_when_is_as_configured() {
    let Some(lan) = Lan::new(3) else { return };
    let [one, other] = lan.pair(false, &[]);
    let another = lan.path("other-admin");
    let by_another =
        |node: &Node<'_>| node.shell(&["--admin-key", another.to_str().unwrap()], &["true"]).output().unwrap();
    refused(&other.as_administrator(&["true"]).output().unwrap(), "lends its shell in recovery only");
    assert_eq!(one.console(), "");
    drop(one);
    let one = lan.start(1, "edge-1", false, "token", &["--shell", "always"]);
    until("the way there", || other.as_administrator(&["true"]).output().unwrap(), |said| said.status.success());
    refused(&other.with_code("aaaa-aaaa-aaaa-aaaa", &["true"]), "only an administrator's key opens its shell");
    refused(&by_another(&other), "not the key of an administrator");
    // Nobody gets the shell of the machine that they ask by.
    refused(&one.as_administrator(&["true"]).output().unwrap(), "is this node itself");
    // A node of another network has no way there.
    let stranger = lan.start(3, "edge-3", false, "stranger", &["--peer", "192.0.2.1:7946"]);
    until("the stranger", || stranger.status(), |status| status["id"].is_string());
    refused(&stranger.as_administrator(&["true"]).output().unwrap(), "no member is called `edge-1`");
    drop(one);
    let _one = lan.start(1, "edge-1", true, "token", &["--shell", "never"]);
    let said = until(
        "the refusal",
        || other.as_administrator(&["true"]).output().unwrap(),
        |said| text(&said.stderr).contains("`never`"),
    );
    refused(&said, "p2p.shell is `never` there");
}

#[test]
fn much_output_comes_whole_and_what_nobody_reads_is_not_held_in_memory() {
    let Some(lan) = Lan::new(2) else { return };
    let [one, other] = lan.pair(false, &["--shell", "always"]);
    let length = 100_000_000;
    let start = |stdout: Stdio| {
        let mut child = other.as_administrator(&["head", "-c", &length.to_string(), "/dev/zero"]);
        child.stdin(Stdio::null()).stdout(stdout).spawn().unwrap()
    };
    let mut slow = start(Stdio::piped());
    let mut stdout = slow.stdout.take().unwrap();
    let mut first = [0; 1_000];
    stdout.read_exact(&mut first).unwrap();
    // Now all that is between them fills up, and stays within bounds while nothing is read.
    let resident = |node: &Node<'_>| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let before = [resident(&one), resident(&other)];
    // Another one runs through meanwhile, whole.
    let mut count = 0;
    let mut quick = start(Stdio::piped());
    let mut buffer = vec![0; 65_536];
    let mut quick_stdout = quick.stdout.take().unwrap();
    loop {
        match quick_stdout.read(&mut buffer).unwrap() {
            0 => break,
            read => count += read,
        }
    }
    assert_eq!((count, quick.wait().unwrap().code()), (length, Some(0)));
    let after = [resident(&one), resident(&other)];
    for (before, after) in before.iter().zip(&after) {
        assert!(*after < before + 24 * 1024, "{before} kB, then {after} kB");
    }
    let mut rest = 1_000;
    loop {
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            read => rest += read,
        }
    }
    assert_eq!((rest, slow.wait().unwrap().code()), (length, Some(0)));
}

#[test]
fn input_goes_through_signals_reach_the_program_and_a_killed_caller_ends_it() {
    let Some(lan) = Lan::new(2) else { return };
    let [_one, other] = lan.pair(false, &["--shell", "always"]);
    // More than any window, and back.
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let mut cat = other.as_administrator(&["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, sent) = (cat.stdin.take().unwrap(), input.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let done = cat.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(done.status.success() && done.stdout == input, "{}", done.stdout.len());

    let ready = |child: &mut Child| {
        let mut line = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"ready\n");
    };
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let mut trapped = other.as_administrator(&["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    ready(&mut trapped);
    run(&format!("kill -TERM {}", trapped.id()));
    let done = trapped.wait_with_output().unwrap();
    assert_eq!((done.status.code(), text(&done.stdout)), (Some(9), "caught\n".into()));

    let killed = other.as_administrator(&["sh", "-c", "kill -9 $$"]).status().unwrap();
    assert_eq!(killed.code(), Some(137));
    let absent = other.as_administrator(&["/no/such/program"]).output().unwrap();
    refused(&absent, "/no/such/program");

    // The pipe is open as long as one of them is there.
    let pipe = lan.path("pipe");
    run(&format!("mkfifo {}", pipe.display()));
    let script = format!("trap '' HUP TERM; exec 3<>{}; sleep 600 & echo ready; wait", pipe.display());
    let mut child = other.as_administrator(&["sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    ready(&mut child);
    assert!(is_open(&pipe));
    child.kill().unwrap();
    child.wait().unwrap();
    until("the end of the group", || is_open(&pipe), |open| !open);
}

/// Whether anybody reads a pipe.
fn is_open(pipe: &Path) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    open(pipe, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).is_ok()
}

/// Somebody at a terminal, which is `script`'s.
struct Typist {
    process: Child,
    keys: ChildStdin,
    shown: PathBuf,
}

impl Typist {
    fn start(lan: &Lan, command: &Command) -> Option<Self> {
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let line =
            format!("stty cols 91 rows 17; {}; echo ended $?; stty -a | grep -o -E -- '-?icanon'", words.join(" "));
        let shown = lan.path("shown");
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--flush", "--command", &line, "/dev/null"])
            .env("TERM", "dumb")
            .env("SHELL", "/bin/sh");
        script.stdin(Stdio::piped()).stdout(std::fs::File::create(&shown).unwrap());
        let mut process = match script.spawn() {
            Ok(process) => process,
            Err(error) => {
                eprintln!("skipped: `script` does not run: {error}");
                return None;
            }
        };
        let keys = process.stdin.take().unwrap();
        Some(Self { process, keys, shown })
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn sees(&self, what: &str) -> String {
        until(what, || text(&std::fs::read(&self.shown).unwrap()), |shown| shown.contains(what))
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn at_a_terminal_the_code_is_asked_for_and_the_shell_has_a_terminal_of_the_same_size() {
    let Some(lan) = Lan::new(2) else { return };
    let [one, other] = lan.pair(true, &[]);
    let code = one.code(1);
    let Some(mut typist) = Typist::start(&lan, &other.shell(&[], &[])) else { return };
    typist.sees("code on the console of node ");
    typist.types(&format!("{}\n", code.to_uppercase()));
    // The shell is there once the console says so.
    until("the shell", || one.console(), |console| console.contains("is opened by"));
    typist.types("PS1=; echo si''ze $(stty size) $TERM\n");
    typist.sees("size 17 91 dumb");
    // What is typed at a raw terminal is for the program there: this ends `sleep`, and nothing here.
    typist.types("sleep 612; echo inter''rupted $?\n");
    until("the program", || run("ps ax -o args"), |all| all.lines().any(|line| line == "sleep 612"));
    typist.types("\u{3}");
    typist.types("\necho go''es on\n");
    typist.sees("goes on");
    typist.types("exit 5\n");
    typist.sees("ended 5");
    // The terminal is as it was.
    let shown = typist.sees("icanon");
    assert!(!shown.contains("-icanon"), "{shown}");
}

#[test]
fn the_terminal_is_as_it_was_when_the_caller_is_ended_or_loses_the_other_side() {
    let Some(lan) = Lan::new(2) else { return };
    let [one, other] = lan.pair(false, &["--shell", "always"]);
    for kills_the_node in [false, true] {
        let marker = lan.path(if kills_the_node { "second" } else { "first" });
        let Some(mut typist) = Typist::start(&lan, &other.as_administrator(&[])) else { return };
        typist.types(&format!("touch {}\n", marker.display()));
        until("the shell", || marker.exists(), |exists| *exists);
        if kills_the_node {
            run(&format!("kill -KILL {}", one.process.id()));
        } else {
            let all = run("ps ax -o pid,args");
            let key = lan.path("admin").display().to_string();
            let mut callers = all
                .lines()
                .filter(|line| line.contains(" mesh shell ") && line.contains(&key) && !line.contains("script"));
            let caller = callers.find(|line| line.contains("kairn") && !line.contains("sh -c")).unwrap();
            run(&format!("kill -TERM {}", caller.split_whitespace().next().unwrap()));
        }
        let shown = typist.sees("icanon");
        assert!(!shown.contains("-icanon"), "{shown}");
        assert!(shown.contains(if kills_the_node { "ended 4" } else { "ended 143" }), "{shown}");
    }
}
