//! The guide shows what the feature `mls` changes in this program's source. This test makes that diff
//! from the source, so that the guide stays true. `UPDATE_GUIDE=1` has it written into the guide.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::{env, fmt::Write as _, fs, path::Path};

const WITH: &str = "#[cfg(feature = \"mls\")]";
const WITHOUT: &str = "#[cfg(not(feature = \"mls\"))]";
const WITHOUT_ONLY: &str = "#![cfg_attr(not(feature = \"mls\"), ";

/// In the guide the diff is between these.
const BEGIN: &str = "```diff\n";
const END: &str = "```\n";

/// Each line of a file with its sign in the diff. The attributes that tell are left out.
fn signed(source: &str) -> Vec<(char, String)> {
    let lines: Vec<&str> = source.lines().collect();
    let mut signed: Vec<(char, String)> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let sign = match lines[at].trim() {
            WITH => '+',
            WITHOUT => '-',
            line if line.starts_with(WITHOUT_ONLY) => {
                signed.push(('-', lines[at].to_owned()));
                at += 1;
                continue;
            }
            _ => {
                signed.push((' ', lines[at].to_owned()));
                at += 1;
                continue;
            }
        };
        // What is said of an item is before its attributes.
        for (of, line) in signed.iter_mut().rev() {
            if *of != ' ' || !line.trim().starts_with("///") {
                break;
            }
            *of = sign;
        }
        at += 1;
        let mut depth = 0_isize;
        loop {
            let line = lines[at];
            let count = |signs: [char; 3]| {
                isize::try_from(line.matches(signs).count()).expect("lines are short")
            };
            depth += count(['(', '[', '{']) - count([')', ']', '}']);
            signed.push((sign, line.to_owned()));
            at += 1;
            if depth == 0 && line.ends_with([';', '}', ',']) {
                break;
            }
        }
    }
    signed
}

/// The lines that are changed, each group after the line before it.
fn diff(folder: &Path) -> String {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    let mut diff = String::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let source = fs::read_to_string(&file).unwrap();
        if name == "mls.rs" {
            let count = source.lines().count();
            writeln!(diff, "src/{name}\n+ ({count} lines: what is said of MLS rooms)").unwrap();
            continue;
        }
        let lines = signed(&source);
        if lines.iter().all(|(sign, _)| *sign == ' ') {
            continue;
        }
        writeln!(diff, "src/{name}").unwrap();
        let mut before: Option<&str> = None;
        for (sign, line) in &lines {
            if *sign == ' ' {
                before = (!line.is_empty()).then_some(line);
                continue;
            }
            if let Some(before) = before.take() {
                writeln!(diff, "  {before}").unwrap();
            }
            writeln!(diff, "{sign} {line}").unwrap();
        }
    }
    diff
}

#[test]
fn the_guide_shows_what_the_feature_changes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let diff = diff(&folder.join("src"));
    let guide = folder.join("../../docs/guide/matrix-sdk.md");
    let text = fs::read_to_string(&guide).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("there is no diff in the guide");
    let (shown, after) = rest.split_once(END).unwrap();
    if env::var_os("UPDATE_GUIDE").is_some() {
        fs::write(&guide, format!("{before}{BEGIN}{diff}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(shown, diff, "run this test with UPDATE_GUIDE=1, and look at what has changed");
}

#[test]
fn items_and_statements_are_taken_whole() {
    let source = "use a;\n#[cfg(feature = \"mls\")]\nuse b::{\n    c,\n};\n/// Says.\n#[cfg(not(feature = \"mls\"))]\nfn d(\n    e: F,\n) -> G {\n    h()\n}\n\nuse i;";
    let signs: String = signed(source).iter().map(|(sign, _)| *sign).collect();
    assert_eq!(signs, " +++------  ");
}

/// Few enough lines that somebody does it in an afternoon.
#[test]
fn few_lines_differ() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let diff = diff(&folder);
    let changed = diff.lines().filter(|line| line.starts_with(['+', '-'])).count();
    assert!(changed < 60, "{changed} lines differ");
}
