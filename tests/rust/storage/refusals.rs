//! What is no data directory of this node is refused, each with an error of its own, however often it is tried.

use super::Scratch;
use super::fake_disk::FakeDisk;
use super::workload::{Workload, open};
use hustings::error::Error;
use hustings::node::storage::Storage;
use std::os::unix::fs::PermissionsExt;

/// A used data directory, given back.
async fn used() -> FakeDisk {
    let disk = FakeDisk::default();
    let (storage, stores) = open(&disk).unwrap();
    let mut workload = Workload::on(stores, 2).await;
    workload.run(24).await;
    storage.close().await;
    disk
}

fn refused(disk: &FakeDisk) -> Error {
    let error = open(disk).expect_err("it must be refused");
    let again = open(disk).expect_err("it must be refused again");
    assert_eq!(error.to_string(), again.to_string());
    error
}

fn check(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[tokio::test]
async fn a_folder_is_private_and_has_one_owner() {
    let scratch = Scratch::new();
    let (storage, stores) = Storage::open(scratch.disk("data")).unwrap();
    let mode = |name: &str| {
        let path = scratch.path("data").join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o700);
    for entry in std::fs::read_dir(scratch.path("data")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert_eq!(mode(&name), 0o600, "{name}");
    }
    match Storage::open(scratch.disk("data")) {
        Err(Error::DataDirLocked { pid, path }) => {
            assert_eq!(pid, std::process::id());
            assert!(path.ends_with("data"), "{path}");
        }
        other => panic!("{other:?}"),
    }
    drop(stores);
    storage.close().await;
    let (again, _) = Storage::open(scratch.disk("data")).unwrap();
    let (one, two) = (storage.identity(), again.identity());
    assert_eq!((one.node, one.store, one.incarnation), (two.node, two.store, two.incarnation - 1));
}

#[test]
fn a_place_that_cannot_be_a_data_directory_is_refused_untouched() {
    let scratch = Scratch::new();
    check(
        &Storage::open(scratch.disk("missing/data")).unwrap_err(),
        &["missing/data", "the folder above it does not exist"],
    );
    std::fs::write(scratch.path("file"), "x").unwrap();
    check(&Storage::open(scratch.disk("file")).unwrap_err(), &["file", "it is a file"]);
    std::fs::create_dir(scratch.path("home")).unwrap();
    std::fs::write(scratch.path("home").join("thesis.txt"), "x").unwrap();
    check(
        &Storage::open(scratch.disk("home")).unwrap_err(),
        &["home", "thesis.txt", "no data directory"],
    );
    assert_eq!(std::fs::read_dir(scratch.path("home")).unwrap().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn files_that_are_missing_or_belong_to_another_directory_are_named() {
    let whole = used().await;
    let snapshot = whole.file_names().into_iter().find(|n| n.starts_with("snapshot-")).unwrap();
    let other = used().await;
    let changed = |change: &dyn Fn(&FakeDisk)| {
        let disk = whole.copy();
        change(&disk);
        refused(&disk)
    };
    check(&changed(&|d| d.remove_file("identity")), &["fake/identity", "missing", "new id"]);
    check(&changed(&|d| d.remove_file("log.redb")), &["fake/log.redb", "missing", "new id"]);
    check(&changed(&|d| d.remove_file(&snapshot)), &["no snapshot covers it"]);
    check(&changed(&|d| d.set_file("log.redb", Vec::new())), &["fake/log.redb", "empty"]);
    check(
        &changed(&|d| d.set_file("log.redb", other.file("log.redb"))),
        &["fake/log.redb", "another data directory"],
    );
    check(
        &changed(&|d| d.set_file(&snapshot, other.file(&snapshot))),
        &[&snapshot, "another data directory"],
    );
    check(&changed(&|d| d.set_file("identity", other.file("identity"))), &["another data dir"]);
    let newer = String::from_utf8(whole.file("identity")).unwrap().replace("format 5", "format 6");
    let error = changed(&|d| d.set_file("identity", newer.clone().into_bytes()));
    assert!(matches!(error, Error::Storage { .. }), "{error:?}");
    check(&error, &["format 6", "knows 5", "version that wrote it"]);
    assert!(open(&whole).is_ok());
}
