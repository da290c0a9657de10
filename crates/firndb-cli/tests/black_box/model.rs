//! Random loads, deletes, flushes and compactions of two families, beside a sorted map; readers beside a writer.

use std::collections::BTreeMap;

use firndb_testkit::{Random, hex};

use super::harness::escaped;
use super::{Place, command, firn};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A key out of few, so that they meet again, with every sort of byte in it.
fn key(random: &mut Random) -> Vec<u8> {
    const ALPHABET: [u8; 6] = [0, b'a', b'b', b'\t', b'\\', 0xff];
    (0..random.index(4)).map(|_| random.one_of(&ALPHABET)).collect()
}

/// Loads up to 60 lines in one of the three forms, and does the same to the map.
fn load(place: &Place, family: &str, map: &mut Map, random: &mut Random) {
    let form = random.index(3);
    let mut input = String::new();
    for _ in 0..random.index(60) {
        let key = key(random);
        let value = (random.index(4) > 0).then(|| random.bytes_up_to(20));
        match (form, &value) {
            // An empty line is no key.
            (0, None) | (1, None) if key.is_empty() => continue,
            (0, None) => input.push_str(&escaped(&key)),
            (0, Some(value)) => input.push_str(&format!("{}\t{}", escaped(&key), escaped(value))),
            (1, None) => input.push_str(&hex(&key)),
            (1, Some(value)) => input.push_str(&format!("{}\t{}", hex(&key), hex(value))),
            (_, None) => input.push_str(&format!("{{\"key_hex\":\"{}\",\"value\":null}}", hex(&key))),
            (_, Some(value)) => {
                input.push_str(&format!("{{\"key_hex\":\"{}\",\"value_hex\":\"{}\"}}", hex(&key), hex(value)));
            }
        }
        input.push('\n');
        match value {
            None => map.remove(&key),
            Some(value) => map.insert(key, value),
        };
    }
    let batch = (random.index(30) + 1).to_string();
    let mut arguments = vec!["--cf", family, "--batch", &batch];
    arguments.extend([None, Some("--hex"), Some("--json")][form]);
    arguments.extend((random.index(2) == 0).then_some("--sync"));
    place.lines(input, &arguments).is_silent();
}

/// One scan with options chosen at random, as hex, against the map.
fn scan(place: &Place, family: &str, map: &Map, random: &mut Random) {
    let mut some = |odds: usize| (random.index(odds) == 0).then(|| key(random));
    let (from, to, prefix) = (some(2), some(2), some(3));
    let (is_reverse, limit) = (random.index(2) == 0, (random.index(2) == 0).then(|| random.index(30)));
    let mut expected: Vec<String> = map
        .iter()
        .filter(|(key, _)| from.as_ref().is_none_or(|from| *key >= from))
        .filter(|(key, _)| to.as_ref().is_none_or(|to| *key < to))
        .filter(|(key, _)| prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix)))
        .map(|(key, value)| format!("{}\t{}\n", hex(key), hex(value)))
        .collect();
    if is_reverse {
        expected.reverse();
    }
    expected.truncate(limit.unwrap_or(usize::MAX));
    let mut arguments = vec!["--hex".to_owned(), format!("--cf={family}")];
    for (name, value) in [("from", &from), ("to", &to), ("prefix", &prefix)] {
        arguments.extend(value.iter().map(|value| format!("--{name}={}", hex(value))));
    }
    arguments.extend(is_reverse.then(|| "--reverse".to_owned()));
    arguments.extend(limit.map(|limit| format!("--limit={limit}")));
    let ran = place.run("scan", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ran.text(), expected.concat(), "{arguments:?}");
}

#[test]
fn a_sorted_map_and_firn_agree_on_two_families_through_flushes_and_compactions() {
    for seed in 0..4 {
        let mut random = Random::new(seed);
        let place = Place::new();
        firn(&["cf", "create", place.db().to_str().expect("text"), "two"]).is_silent();
        let mut maps = [("default", Map::new()), ("two", Map::new())];
        for _ in 0..40 {
            let which = random.index(2);
            let (family, map) = &mut maps[which];
            match random.index(10) {
                0..=3 => load(&place, family, map, &mut random),
                4 => {
                    let (key, value) = (key(&mut random), random.bytes_up_to(8));
                    place.run("put", &["--hex", "--cf", family, &hex(&key), &hex(&value)]).is_silent();
                    map.insert(key, value);
                }
                5 => {
                    let key = key(&mut random);
                    place.run("delete", &["--hex", "--cf", family, &hex(&key)]).is_silent();
                    map.remove(&key);
                }
                6 => place.run("flush", &[]).is_silent(),
                7 => place.run(random.one_of(&["flush", "compact"]), &["--cf", family]).is_silent(),
                8 => place.run("compact", &[]).is_silent(),
                _ => {
                    let key = key(&mut random);
                    let ran = place.run("get", &["--hex", "--cf", family, &hex(&key)]);
                    match map.get(&key) {
                        None => ran.is_absent(),
                        Some(value) => ran.prints(format!("{}\n", hex(value))),
                    }
                }
            }
            for (family, map) in &maps {
                scan(&place, family, map, &mut random);
            }
        }
        for (family, map) in &maps {
            place.run("count", &["--cf", family]).prints(format!("{}\n", map.len()));
        }
        assert_eq!(place.run("verify", &[]).code, 0);
    }
}

#[test]
fn readers_and_verify_beside_a_busy_writer_see_no_damage_and_whole_batches() {
    let place = Place::new();
    place.load("warm\tup\n");
    let db = place.db();
    let writer = std::thread::spawn(move || {
        for round in 0..12 {
            let lines: String = (0..2000).map(|number| format!("key{number:06}\tround {round}\n")).collect();
            let mut child = command().arg("load").arg(&db).spawn().expect("it starts");
            let mut stdin = child.stdin.take().expect("piped");
            std::io::Write::write_all(&mut stdin, lines.as_bytes()).expect("it reads");
            drop(stdin);
            assert!(child.wait().expect("it ends").success());
            for verb in ["flush", "compact"] {
                assert!(command().arg(verb).arg(&db).status().expect("it runs").success());
            }
        }
    });
    let mut runs = 0;
    while !writer.is_finished() || runs < 5 {
        runs += 1;
        let verified = place.run("verify", &[]);
        assert!(verified.code == 0 && verified.err.is_empty(), "{verified:?}");
        let count: u64 = place.run("count", &[]).text().trim().parse().expect("a number");
        assert_eq!((count - 1) % 1000, 0, "whole batches only");
        let scan = place.run("scan", &["--prefix", "key"]).text();
        for batch in scan.lines().collect::<Vec<_>>().chunks(1000) {
            let round = |line: &&str| line.split_once('\t').expect("a value").1.to_owned();
            assert!(batch.iter().all(|line| round(line) == round(&batch[0])), "a batch is seen as a whole");
        }
    }
    writer.join().expect("no panic");
}
