//! What the tool says of good and bad stores, and that it leaves them alone.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use matrix_sdk_crypto_mls::store::{Changes, MlsStore as _};
use matrix_sdk_mls_sqlite::SqliteMlsStore;
use ruma::room_id;
use serde_json::Value;

/// The fixture's.
const KEY: [u8; 32] = [42; 32];
const NAME: &str = "matrix-sdk-mls.sqlite3";

fn tool(args: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mls-store"));
    command.env_remove("MLS_STORE_PASSPHRASE");
    command.args(args).arg(file).output().unwrap()
}

fn key() -> String {
    "2a".repeat(32)
}

/// A copy of the store that the first version has made.
fn fixture(directory: &Path) -> PathBuf {
    let original = "../../crates/matrix-sdk-mls-sqlite/tests/fixtures/version-1.sqlite3";
    let file = directory.join("a store.sqlite3");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(original), &file).unwrap();
    file
}

/// Runs the tool, requires that it leaves all files as they were, and gives its output if it
/// succeeded, else its errors.
fn run(args: &[&str], file: &Path) -> Result<String, String> {
    let files = |path: &Path| -> Vec<_> {
        let files = fs::read_dir(path.parent().unwrap()).unwrap();
        let mut files: Vec<_> = files
            .map(|file| file.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files(file);
    let output = tool(args, file);
    assert!(files(file) == before, "{args:?} has changed something");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    match output.status.code() {
        Some(0) => Ok(text(output.stdout)),
        Some(1) => Err(text(output.stderr) + &text(output.stdout)),
        other => panic!("{args:?} ends with {other:?}: {}", text(output.stderr)),
    }
}

#[test]
fn a_store_of_the_first_version_is_summed_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = fixture(directory.path());
    let text = run(&["inspect", "--key", &key()], &file).unwrap();
    for part in ["encrypted", "2 rooms", "!one:", "tip ", "epoch_key: ", "sound\n"] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    let json = run(&["inspect", "--json", "--key", &key()], &file).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["schema_version"], &json["sound"]), (&1.into(), &true.into()));
    assert_eq!(json["file_bytes"], fs::metadata(&file).unwrap().len());
    assert_eq!(json["rooms"].as_array().unwrap().len(), 2);
    let tips = |room: &Value| !room["tips"].as_array().unwrap().is_empty();
    assert!(json["rooms"].as_array().unwrap().iter().any(tips));

    let text = run(&["check", "--key", &key()], &file).unwrap();
    assert!(text.ends_with("\nsound\n") && !text.contains("room"), "{text}");
}

#[test]
fn keys_come_from_files_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = fixture(directory.path());
    let key_file = directory.path().join("key");
    for content in [KEY.to_vec(), format!("{}\n", key()).into_bytes()] {
        fs::write(&key_file, content).unwrap();
        run(&["check", "--key-file", key_file.to_str().unwrap()], &file).unwrap();
    }
    for wrong in ["", "2a2a", &"2a".repeat(33), &"xy".repeat(32)] {
        fs::write(&key_file, wrong).unwrap();
        let error = run(&["check", "--key-file", key_file.to_str().unwrap()], &file).unwrap_err();
        assert!(error.contains("64 hexadecimal digits"), "{error}");
        assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
    }
}

#[tokio::test]
async fn a_passphrase_opens_a_store_whose_log_is_not_written_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteMlsStore::open(&directory, Some("a passphrase")).await.unwrap();
    let mut changes = Changes::default();
    changes.room(room_id!("!recognisable:example.org"));
    store.save_changes(changes).await.unwrap();
    // As it was when the application was killed: a copy, since the store is still open.
    let killed = tempfile::tempdir().unwrap();
    for name in [NAME.to_owned(), format!("{NAME}-wal")] {
        fs::copy(directory.path().join(&name), killed.path().join(&name)).unwrap();
    }
    let file = killed.path().join(NAME);
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "a passphrase\r\n").unwrap();
    let args = ["inspect", "--passphrase-file", secret.path().to_str().unwrap()];
    let text = run(&args, &file).unwrap();
    assert!(text.contains("sound\n"), "{text}");

    let mut command = Command::new(env!("CARGO_BIN_EXE_mls-store"));
    command.env("MLS_STORE_PASSPHRASE", "a passphrase").arg("check").arg(&file);
    assert!(command.status().unwrap().success());
    command.env("MLS_STORE_PASSPHRASE", "another");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not this store's"));
    store.close().await.unwrap();
}

#[test]
fn what_cannot_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = fixture(directory.path());
    let with_key = ["inspect", "--key", &key()];
    let says = |args: &[&str], what: &str| {
        let error = run(args, &file).unwrap_err();
        assert!(error.contains(what), "{what:?} is missing: {error}");
    };
    says(&["inspect", "--key", &"00".repeat(32)], "is not this store's");
    says(&["inspect"], "no key or passphrase was given");

    let original = fs::read(&file).unwrap();
    let mut newer = original.clone();
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&file, newer).unwrap();
    says(&with_key, "schema is version 99");
    for length in [0, 50, 8192] {
        fs::write(&file, &original[..length]).unwrap();
        says(&with_key, "cut off");
    }
    fs::write(&file, [7; 10_000]).unwrap();
    says(&with_key, "not a database");
    fs::remove_file(&file).unwrap();
    let error = run(&with_key, &file).unwrap_err();
    assert!(error.contains("a store.sqlite3") && error.contains("os error 2"), "{error}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

/// The bytes of some page are lost: the summary or at least the check notices.
#[test]
fn damage_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = fixture(directory.path());
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 8192 * 4096;
    bytes[middle..middle + 4096].fill(0xff);
    fs::write(&file, bytes).unwrap();
    for verb in ["inspect", "check"] {
        let error = run(&[verb, "--key", &key()], &file).unwrap_err();
        assert!(error.contains("problem: ") && error.contains("not sound"), "{error}");
        let json = tool(&[verb, "--json", "--key", &key()], &file).stdout;
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["sound"], false);
        assert!(!json["problems"].as_array().unwrap().is_empty());
    }
}
