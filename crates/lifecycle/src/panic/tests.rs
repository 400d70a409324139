use super::*;
use crate::Sequence;
use crate::attempt::Opening;
use proptest::prelude::*;

fn part(at: u64, text: &str) -> Part {
    Part { at, text: text.into() }
}

/// A log as efi-pstore returns it, newest part first.
fn corrupted(at: u64) -> Vec<Part> {
    vec![
        part(
            at,
            "Panic#1 Part1\n<0>[   14.118419] Kernel panic - not syncing: dm-verity device corrupted\n<4>[   14.1190] CPU: 1 PID: 98\n\
             <4>[   14.120191]  panic+0x118/0x2f4\n<0>[   14.130000] ---[ end Kernel panic - not syncing: dm-verity device corrupted ]---\n",
        ),
        part(
            at + 1,
            "Panic#1 Part2\n<5>[   13.900000] kairn-init: root\n<3>[   14.1100] device-mapper: verity: data block 0 is corrupted\n",
        ),
    ]
}

fn attempt(sequence: u32, number: u32, started: u64, verdict: Verdict) -> Attempt {
    let mut attempt = Attempt::open(Opening {
        name: AttemptName { sequence: Some(Sequence(sequence)), number },
        release: "36ffe508aa36ffe5".parse().unwrap(),
        entry: format!("kairn-{sequence}+1-1.conf"),
        boot_id: format!("boot-{sequence}-{number}"),
        at: started + 9,
    });
    attempt.advance("modules", 4_000);
    attempt.advance("state", 9_000);
    attempt.close(verdict);
    attempt
}

fn name(sequence: u32, number: u32) -> Option<AttemptName> {
    Some(AttemptName { sequence: Some(Sequence(sequence)), number })
}

#[test]
fn parts_are_put_together_from_the_oldest_line_and_the_panic_is_named() {
    let mut parts = corrupted(1_000_020);
    parts.extend(corrupted(1_000_120));
    parts.reverse();
    let dumps = assemble(&parts);
    assert_eq!(dumps.len(), 2);
    let LastWords { at, line, log } = &dumps[0].words;
    assert_eq!((*at, line.as_str()), (1_000_020, "Kernel panic - not syncing: dm-verity device corrupted"));
    assert_eq!(log[0], "kairn-init: root");
    assert_eq!(log[2], *line);
    assert_eq!((log.len(), dumps[0].uptime, dumps[1].words.at), (6, Some(14), 1_000_120));
}

#[test]
fn a_panic_whose_first_line_was_cut_off_is_named_by_its_end_mark() {
    let text = "Panic#2 Part1\n<4>[  3.1]  panic+0x1\n<0>[  3.2] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\n";
    assert_eq!(assemble(&[part(5, text)])[0].words.line, "Kernel panic - not syncing: sysrq triggered crash");
}

#[test]
fn an_oops_is_named_and_a_log_that_says_nothing_by_its_last_line() {
    let oops = "Oops#1 Part1\n<1>[  9.0] BUG: kernel NULL pointer dereference, address: 0\n<4>[  9.1] CR2: 0\n";
    assert_eq!(assemble(&[part(5, oops)])[0].words.line, "BUG: kernel NULL pointer dereference, address: 0");
    assert_eq!(assemble(&[part(5, "no header\nthe end\n\n")])[0].words.line, "the end");
    assert_eq!(assemble(&[part(5, "Panic#1 Part1\n\n"), part(6, "")]), []);
}

#[test]
fn last_words_belong_to_the_boot_that_began_when_they_say() {
    let attempts = [
        attempt(1, 4, 900, Verdict::Healthy),
        attempt(2, 1, 1_000, Verdict::Open),
        attempt(2, 2, 1_100, Verdict::Open),
        attempt(1, 5, 1_200, Verdict::HandedOver),
    ];
    let dump = |at: u64| assemble(&corrupted(at)).remove(0);
    assert_eq!(owner(&dump(1_015), &attempts, "boot-1-5", &[]), name(2, 1));
    assert_eq!(owner(&dump(1_115), &attempts, "boot-1-5", &[]), name(2, 2));
    // A healthy boot that panicked later, at its own time.
    let late = Dump { uptime: Some(70), ..dump(970) };
    assert_eq!(owner(&late, &attempts, "boot-1-5", &[]), name(1, 4));
    // A clock that was set by hours: the latest that was silent, then the one before, then nobody.
    assert_eq!(owner(&dump(90_000), &attempts, "boot-1-5", &[]), name(2, 2));
    assert_eq!(owner(&dump(90_000), &attempts, "boot-1-5", &[name(2, 2).unwrap()]), name(2, 1));
    let taken = [name(2, 1).unwrap(), name(2, 2).unwrap()];
    assert_eq!(owner(&dump(90_000), &attempts, "boot-1-5", &taken), None);
}

#[test]
fn without_times_in_the_log_the_latest_silent_boot_owns_it() {
    let attempts = [attempt(2, 1, 1_000, Verdict::Open), attempt(2, 2, 1_100, Verdict::HandedOver)];
    let dump = Dump { uptime: None, ..assemble(&corrupted(1_015)).remove(0) };
    assert_eq!(owner(&dump, &attempts, "now", &[]), name(2, 2));
}

proptest! {
    #[test]
    fn foreign_bytes_stay_within_bounds(
        bytes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..6),
        at in any::<u64>(),
    ) {
        let parts: Vec<Part> =
            bytes.iter().map(|bytes| part(at, &String::from_utf8_lossy(bytes))).collect();
        for Dump { words: LastWords { line, log, .. }, .. } in assemble(&parts) {
            prop_assert!(!line.is_empty() && log.len() <= LINES);
            for line in log.iter().chain([&line]) {
                prop_assert!(line.chars().count() <= WIDTH && !line.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn headers_and_stamps_of_any_form_are_read_without_harm(text in "(Panic#[0-9]{0,12} Part[0-9]{0,12}\n)?(<[0-9]{0,3}>)?\\[? {0,3}[0-9]{0,25}\\.?[0-9]{0,9}\\]?.{0,40}\n?") {
        prop_assert!(assemble(&[part(1, &text), part(2, &text)]).len() <= 2);
    }
}
