//! Tests of proofs and answers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::credentials::Secret;
use crate::store::Store;
use crate::store::fixture::commit;
use crate::store::fixture::impatient;
use crate::store::fixture::store;
use crate::store::fixture::url;

const TTL: Duration = Duration::from_secs(300);

fn token(token: &str) -> Credentials {
    let keys = BTreeMap::from([("token".to_owned(), Secret::new(token.to_owned()))]);
    Credentials::from_secret_keys(keys).unwrap()
}

fn is_proven(access: &Access, credential: &CredentialId) -> bool {
    access.proof(credential, &commit(1), TTL).is_some()
}

fn now() -> Moment {
    Moment::now().unwrap()
}

fn main() -> Revision {
    Revision::Named("main".to_owned())
}

fn resolved(commit: CommitId) -> Resolved {
    Resolved::new(commit, Some("refs/heads/main".to_owned()))
}

/// The right of a tenant to ask, if it is free in time.
fn asking_of(access: &Access, credential: &CredentialId, cancel: &Cancel) -> Result<ResolveLock, StoreError> {
    match access.resolve_lock_unless(credential, "", cancel, || Ok(None::<()>))? {
        Turn::Ours(lock) => Ok(lock),
        Turn::Done(()) => unreachable!("no answer is looked for"),
    }
}

#[test]
fn s12_a_proof_counts_for_one_credential_and_one_repository() {
    let (_place, store) = store();
    let access = store.access();
    let other_url = RepositoryUrl::parse("https://git.example.com/group/other.git").unwrap();
    let proven = access.credential(&url(), &token("a")).unwrap();
    let others = [
        access.credential(&url(), &token("b")).unwrap(),
        access.credential(&url(), &Credentials::none()).unwrap(),
        access.credential(&other_url, &token("a")).unwrap(),
        access.credential(&other_url, &Credentials::none()).unwrap(),
    ];
    assert_eq!(others.iter().chain([&proven]).collect::<BTreeSet<_>>().len(), 5);
    access.record_answer(&proven, &main(), &resolved(commit(1)), &now()).unwrap();
    assert!(is_proven(access, &proven));
    for other in &others {
        assert!(!is_proven(access, other));
        assert_eq!(access.resolution(other, &main()), None);
    }
}

#[test]
fn s23_a_ref_that_stands_at_a_commit_is_no_proof_of_its_content() {
    let (_place, store) = store();
    let access = store.access();
    let credential = access.credential(&url(), &Credentials::none()).unwrap();
    let says = || access.record_answer(&credential, &main(), &resolved(commit(1)), &now()).unwrap();
    says();
    assert!(is_proven(access, &credential) && !access.has_content(&credential, &commit(1)));
    access.record_content(&credential, &commit(1), Evidence::Ref, &now()).unwrap();
    says();
    assert!(access.has_content(&credential, &commit(1)), "it gave it out earlier");
    access.forget_commit(&credential, &commit(1)).unwrap();
    says();
    assert!(!access.has_content(&credential, &commit(1)), "it refused it since");
    access.record_answer(&credential, &Revision::Commit(commit(2)), &resolved(commit(2)), &now()).unwrap();
    assert!(access.has_content(&credential, &commit(2)));
    let mut commits = access.commits(&credential);
    commits.sort_unstable();
    assert_eq!(commits, [commit(1), commit(2)]);
}

#[test]
fn s23_a_fetch_that_was_begun_before_a_refusal_proves_nothing() {
    let (_place, store) = store();
    let access = store.access();
    for (name, is_of_all) in [("a", true), ("b", false)] {
        let credential = access.credential(&url(), &token(name)).unwrap();
        let asked = now();
        if is_of_all {
            access.forget(&credential).unwrap();
        } else {
            access.forget_commit(&credential, &commit(2)).unwrap();
        }
        access.record_content(&credential, &commit(1), Evidence::Ref, &asked).unwrap();
        assert!(!is_proven(access, &credential));
        access.record_content(&credential, &commit(1), Evidence::Ref, &now()).unwrap();
        assert!(is_proven(access, &credential));
    }
}

#[test]
fn a_proof_ends_with_its_lifetime_the_boot_or_a_refusal() {
    let (_place, store) = store();
    let access = store.access();
    let credential = access.credential(&url(), &Credentials::none()).unwrap();
    assert!(!is_proven(access, &credential));
    access.forget(&credential).unwrap();
    access.record_answer(&credential, &main(), &resolved(commit(1)), &now()).unwrap();
    assert!(is_proven(access, &credential));
    assert!(access.proof(&credential, &commit(1), Duration::ZERO).is_none());

    let path = access.directory(&credential).join(proof::file_name(&commit(1)));
    let proof = fs::read_to_string(&path).unwrap();
    let boot = crate::store::BootId::current().unwrap().to_string();
    let reboot = proof.replace(&boot, &crate::store::BootId::other().to_string());
    for void in [reboot.as_str(), "", "{}"] {
        fs::write(&path, void).unwrap();
        assert!(!is_proven(access, &credential), "{void}");
    }
    fs::write(&path, proof).unwrap();
    assert!(is_proven(access, &credential));

    access.forget(&credential).unwrap();
    assert!(!is_proven(access, &credential));
    assert_eq!(access.resolution(&credential, &main()).unwrap().resolved, resolved(commit(1)));
}

#[test]
fn r11_a_sweep_deletes_a_long_unused_credential_unless_it_is_asking() {
    let (_place, store) = store();
    let access = store.access();
    let [used, asking, old, older_boot] = ["a", "b", "c", "d"].map(|name| {
        let credential = access.credential(&url(), &token(name)).unwrap();
        access.record_answer(&credential, &main(), &resolved(commit(1)), &now()).unwrap();
        credential
    });
    let boot = crate::store::BootId::current().unwrap().to_string();
    for credential in [&asking, &old, &older_boot] {
        let path = access.directory(credential).join(proof::file_name(&commit(1)));
        let proof = fs::read_to_string(&path).unwrap();
        fs::write(&path, proof.replace(&boot, &crate::store::BootId::other().to_string())).unwrap();
    }
    // Changing the files also changes the directory, so its time is set last.
    for credential in [&asking, &old] {
        let directory = access.directory(credential);
        let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in files.iter().chain([&directory]) {
            let long_ago = std::time::SystemTime::now() - 2 * TTL;
            fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
        }
    }
    let turn = asking_of(access, &asking, &impatient()).unwrap();
    assert_eq!(access.sweep_unused(TTL).unwrap(), 1);
    for (credential, known) in [(&used, true), (&asking, true), (&old, false), (&older_boot, true)] {
        assert_eq!(access.resolution(credential, &main()).is_some(), known);
    }
    drop(turn);
    assert_eq!(access.sweep_unused(TTL).unwrap(), 1);
    assert_eq!(access.sweep_unused(Duration::ZERO).unwrap(), 2);
    access.record_answer(&old, &main(), &resolved(commit(1)), &now()).unwrap();
    assert!(is_proven(access, &old));
}

#[test]
fn r11_an_answer_survives_a_reboot_but_its_age_is_then_unknown() {
    let (_place, store) = store();
    let access = store.access();
    let credential = access.credential(&url(), &Credentials::none()).unwrap();
    for digit in [1, 2] {
        access.record_answer(&credential, &main(), &resolved(commit(digit)), &now()).unwrap();
    }
    let answer = access.resolution(&credential, &main()).unwrap();
    assert_eq!(answer.resolved, resolved(commit(2)));
    assert!(answer.age.is_some_and(|age| age < TTL));
    assert_eq!(access.resolution(&credential, &Revision::Named("other".to_owned())), None);

    let path = access.directory(&credential).join(answer_file(&main()));
    let (boot, other) = (crate::store::BootId::current().unwrap(), crate::store::BootId::other());
    let json = fs::read_to_string(&path).unwrap().replace(&boot.to_string(), &other.to_string());
    fs::write(&path, json).unwrap();
    let answer = access.resolution(&credential, &main()).unwrap();
    assert_eq!((answer.resolved, answer.age), (resolved(commit(2)), None));
}

#[test]
fn many_processes_create_one_key_in_one_file() {
    let (place, _) = store();
    let root = place.path().join("store");
    let names: BTreeSet<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Store::open(&root).unwrap().access().credential(&url(), &token("canary")).unwrap()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(names.len(), 1);
    let key = root.join("access/key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(root.join("access")).unwrap().count(), 1);

    fs::write(&key, "torn").unwrap();
    let renamed = Store::open(&root).unwrap().access().credential(&url(), &token("canary")).unwrap();
    assert!(!names.contains(&renamed), "with a new key, every credential must prove its access again");
}

#[test]
fn s13_no_secret_is_on_disk_or_printed() {
    let (place, store) = store();
    let credential = store.access().credential(&url(), &token("canary")).unwrap();
    store.access().record_answer(&credential, &main(), &resolved(commit(1)), &now()).unwrap();
    let mut directories = vec![place.path().to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                assert!(!content.windows(6).any(|window| window == b"canary"), "{path:?}");
            }
        }
    }
    assert!(!format!("{store:?} {credential:?}").contains("canary"));
}

#[test]
fn s12_a_proof_and_its_refusal_count_in_every_store_of_the_node() {
    let (branch, (place, main)) = (main(), store());
    let roots = ["one", "two"].map(|name| place.path().join(name));
    let [one, two] = [&roots[0], &roots[1]].map(|root| Store::open_beside(root, &main).unwrap());
    let credential = one.access().credential(&url(), &token("canary")).unwrap();
    assert_eq!(two.access().credential(&url(), &token("canary")).unwrap(), credential);
    one.access().record_answer(&credential, &branch, &resolved(commit(1)), &now()).unwrap();
    for store in [&one, &two, &main, &Store::open(main.root()).unwrap()] {
        assert!(is_proven(store.access(), &credential));
        assert!(store.access().resolution(&credential, &branch).is_some());
    }
    let asking = asking_of(one.access(), &credential, &Cancel::new()).unwrap();
    assert!(asking_of(two.access(), &credential, &impatient()).is_err());
    drop(asking);
    two.access().forget(&credential).unwrap();
    assert!([&one, &two, &main].iter().all(|store| !is_proven(store.access(), &credential)));
    assert!([&one, &two].iter().all(|store| !store.root().join("access").exists()));
    assert!(one.sweep(TTL, &[]).failures.is_empty());
}

#[test]
fn a_process_that_waits_for_an_answer_shares_it() {
    let (_place, store) = store();
    let access = store.access();
    let credential = access.credential(&url(), &Credentials::none()).unwrap();
    let asking = asking_of(access, &credential, &Cancel::new()).unwrap();
    assert!(asking_of(access, &credential, &impatient()).is_err());
    let turn = access.resolve_lock_unless(&credential, "", &Cancel::new(), || Ok(Some("answer"))).unwrap();
    assert!(matches!(turn, Turn::Done("answer")));
    let other = access.resolve_lock_unless(&credential, "other", &impatient(), || Ok(Some("answer"))).unwrap();
    assert!(matches!(other, Turn::Ours(_)), "another tenant does not wait");
    drop(asking);
    let turn = access.resolve_lock_unless(&credential, "", &Cancel::new(), || Ok(None::<()>)).unwrap();
    assert!(matches!(turn, Turn::Ours(_)));
}

#[test]
fn s23_a_proof_counts_for_one_commit() {
    let (_place, store) = store();
    let access = store.access();
    let credential = access.credential(&url(), &Credentials::none()).unwrap();
    access.record_answer(&credential, &main(), &resolved(commit(1)), &now()).unwrap();
    access.record_answer(&credential, &Revision::Commit(commit(2)), &resolved(commit(2)), &now()).unwrap();
    let proofs = || [1, 2, 3].map(|digit| access.proof(&credential, &commit(digit), TTL));
    assert_eq!(proofs(), [Some(Evidence::Ref), Some(Evidence::Commit), None]);
    assert_eq!(access.resolution(&credential, &Revision::Commit(commit(2))), None, "nothing was resolved");

    access.forget_commit(&credential, &commit(1)).unwrap();
    assert_eq!(proofs(), [None, Some(Evidence::Commit), None]);
    access.forget_commit(&credential, &commit(3)).unwrap();
    access.record_content(&credential, &commit(1), Evidence::Commit, &now()).unwrap();
    access.forget(&credential).unwrap();
    assert_eq!(proofs(), [None; 3], "a refusal voids every proof");
}

/// A commit of many.
fn numbered(number: usize) -> CommitId {
    let mut id = [0; 20];
    id[..8].copy_from_slice(&number.to_le_bytes());
    CommitId::from_bytes(id)
}

/// Pretends that a file of a credential was written so long ago.
fn make_older(access: &Access, credential: &CredentialId, name: &str, age: Duration) {
    let file = fs::File::options().write(true).open(access.directory(credential).join(name)).unwrap();
    file.set_modified(std::time::SystemTime::now() - age).unwrap();
}

#[test]
fn s23_a_credential_has_a_bounded_number_of_proofs_and_loses_the_oldest() {
    let (_place, store) = store();
    let access = store.access();
    let credential = access.credential(&url(), &Credentials::none()).unwrap();
    let age_of = |number: usize| files::YOUNG * 2 - Duration::from_secs(number as u64);
    for number in 0..files::MOST {
        access.record_content(&credential, &numbered(number), Evidence::Ref, &now()).unwrap();
        make_older(access, &credential, &proof::file_name(&numbered(number)), age_of(number));
    }
    // A branch stands there.
    access.record_answer(&credential, &main(), &resolved(numbered(0)), &now()).unwrap();
    make_older(access, &credential, &proof::file_name(&numbered(0)), age_of(0));
    let proven = || (0..=files::MOST).filter(|number| access.proof(&credential, &numbered(*number), TTL).is_some());
    assert_eq!(proven().count(), files::MOST);
    access.record_content(&credential, &numbered(files::MOST - 1), Evidence::Ref, &now()).unwrap();
    assert_eq!(proven().count(), files::MOST, "it was there before");
    access.record_content(&credential, &numbered(files::MOST), Evidence::Ref, &now()).unwrap();
    let left: Vec<_> = proven().collect();
    let latest = files::MOST / 4 + 2..=files::MOST;
    assert_eq!(left, [0].into_iter().chain(latest).collect::<Vec<_>>());
}

#[test]
fn s23_many_new_proofs_drop_no_new_one_of_another_tenant_until_there_are_far_too_many() {
    let (_place, store) = store();
    let access = store.access();
    let credential = access.credential(&url(), &Credentials::none()).unwrap();
    let record = |number| access.record_content(&credential, &numbered(number), Evidence::Commit, &now()).unwrap();
    record(0);
    make_older(access, &credential, &proof::file_name(&numbered(0)), files::YOUNG / 2);
    (1..=2 * files::MOST).for_each(record);
    let proven = || (0..=files::MOST_YOUNG).filter(|it| access.proof(&credential, &numbered(*it), TTL).is_some());
    assert_eq!(proven().count(), 2 * files::MOST + 1);
    let proof = access.directory(&credential).join(proof::file_name(&numbered(0)));
    for number in 2 * files::MOST + 1..files::MOST_YOUNG {
        fs::copy(&proof, proof.with_file_name(proof::file_name(&numbered(number)))).unwrap();
    }
    record(files::MOST_YOUNG);
    assert_eq!(proven().count(), files::MOST_YOUNG);
    assert!(access.proof(&credential, &numbered(0), TTL).is_none(), "the oldest one goes");
}

#[test]
fn a_credential_has_a_bounded_number_of_answers() {
    let (_place, store) = store();
    let access = store.access();
    let credential = access.credential(&url(), &Credentials::none()).unwrap();
    let revision = |number: usize| Revision::Named(format!("branch-{number}"));
    for number in 0..files::MOST {
        access.record_answer(&credential, &revision(number), &resolved(commit(1)), &now()).unwrap();
        let age = files::YOUNG * 2 - Duration::from_secs(number as u64);
        make_older(access, &credential, &answer_file(&revision(number)), age);
    }
    let known = || (0..=files::MOST).filter(|number| access.resolution(&credential, &revision(*number)).is_some());
    assert_eq!(known().count(), files::MOST);
    access.record_answer(&credential, &revision(files::MOST), &resolved(commit(1)), &now()).unwrap();
    assert!(known().eq(files::MOST / 4 + 1..=files::MOST));
}

#[test]
fn an_answer_is_forgotten_without_the_proofs() {
    let (_place, store) = store();
    let access = store.access();
    let credential = access.credential(&url(), &Credentials::none()).unwrap();
    access.record_answer(&credential, &main(), &resolved(commit(1)), &now()).unwrap();
    for _ in 0..2 {
        access.forget_answer(&credential, &main()).unwrap();
        assert_eq!(access.resolution(&credential, &main()), None);
    }
    assert!(is_proven(access, &credential));
}
