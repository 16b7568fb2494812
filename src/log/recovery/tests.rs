//! A machine that stops at any byte, and disks that change what they hold.

use std::collections::HashMap;
use std::convert::Infallible;

use super::*;

const OPTIONS: Options =
    Options { segment_bytes: 1 << 20, verify_all: true, on_damage: OnDamage::Refuse, from_offset: 0 };

/// What reading the log tells: offset, events, producers' marks, window of each record.
type Read = Vec<(u64, Vec<u8>, Vec<(String, u64)>, Option<u64>)>;

fn read(dir: &Path, options: Options) -> Result<(Read, Writer), OpenError> {
    let mut records = Vec::new();
    let writer = open(dir, options, |head, events| {
        records.push((head.first_offset, events.to_vec(), head.marks.clone(), head.window));
        Ok::<_, Infallible>(())
    })?;
    Ok((records, writer))
}

/// A log of so many commits of two "events" each, in segments of that size.
fn written(dir: &Path, commits: u64, segment_bytes: u64) -> Read {
    let (_, mut writer) = read(dir, Options { segment_bytes, ..OPTIONS }).unwrap();
    for number in 0..commits {
        let marks = HashMap::from([("shop".into(), number + 1)]);
        let events = format!("events of commit {number}");
        let window = (number % 3 == 2).then_some(number / 3 + 1);
        writer.commit(2, [events.as_bytes()].into_iter(), &marks, window, 0).unwrap();
    }
    drop(writer);
    read(dir, OPTIONS).unwrap().0
}

fn only_segment(dir: &Path) -> PathBuf {
    segment::list(dir).unwrap().remove(0).path
}

#[test]
fn what_was_committed_is_read_back_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let records = written(dir.path(), 10, 200);
    assert!(segment::list(dir.path()).unwrap().len() > 2);
    assert_eq!(records.len(), 10);
    assert_eq!(records[5], (10, b"events of commit 5".to_vec(), vec![("shop".to_owned(), 6)], Some(2)));
    let (tail, writer) = read(dir.path(), Options { from_offset: 12, verify_all: false, ..OPTIONS }).unwrap();
    assert_eq!(tail, records[6..]);
    assert_eq!(writer.offset(), 20);
    let on_disk: u64 = segment::list(dir.path()).unwrap().iter().map(|s| fs::metadata(&s.path).unwrap().len()).sum();
    assert_eq!(writer.bytes(), on_disk);
}

/// The crash: the machine stopped in the middle of the last write, at any byte of it.
#[test]
fn a_torn_tail_is_cut_off_and_the_log_goes_on() {
    let whole = tempfile::tempdir().unwrap();
    let records = written(whole.path(), 4, 1 << 20);
    let bytes = fs::read(only_segment(whole.path())).unwrap();
    for cut in 0..bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000000.log");
        fs::write(&path, &bytes[..cut]).unwrap();
        let (read_back, mut writer) = read(dir.path(), OPTIONS).unwrap();
        assert_eq!(read_back, records[..read_back.len()], "cut at byte {cut}");
        writer.commit(1, [&b"after the crash"[..]].into_iter(), &HashMap::new(), None, 0).unwrap();
        let (again, _) = read(dir.path(), OPTIONS).unwrap();
        assert_eq!(again.len(), read_back.len() + 1, "cut at byte {cut}");
    }
}

/// The crash: the machine stopped while the tail's blocks were being written, and rubbish is in their place.
#[test]
fn a_tail_of_rubbish_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let records = written(dir.path(), 3, 1 << 20);
    let path = only_segment(dir.path());
    for rubbish in [&[0u8; 5000][..], b"BDR1", b"BDR1\x05\0\0\0rubbish that goes on for a while"] {
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(rubbish);
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(dir.path(), OPTIONS).unwrap().0, records);
    }
}

#[test]
fn a_flipped_byte_in_the_middle_is_refused_with_its_place_or_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let records = written(dir.path(), 5, 1 << 20);
    let path = only_segment(dir.path());
    let good = fs::read(&path).unwrap();
    let place = |bytes: &[u8], text: &str| memchr::memmem::find(bytes, text.as_bytes()).unwrap();
    let mut bytes = good.clone();
    bytes[place(&good, "commit 2")] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = read(dir.path(), OPTIONS).unwrap_err().to_string();
    assert!(error.contains("00000000000000000000.log, byte "), "{error}");
    assert!(error.contains("behind event 4") && error.contains("checksum"), "{error}");
    let (rest, writer) = read(dir.path(), Options { on_damage: OnDamage::Skip, ..OPTIONS }).unwrap();
    assert_eq!(rest, [&records[..2], &records[3..]].concat());
    assert_eq!(writer.offset(), 10);
}

#[test]
fn a_missing_segment_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 10, 200);
    let gone = segment::list(dir.path()).unwrap().remove(1).path;
    fs::remove_file(gone).unwrap();
    let error = read(dir.path(), OPTIONS).unwrap_err().to_string();
    assert!(error.contains("events are missing before this file"), "{error}");
}
