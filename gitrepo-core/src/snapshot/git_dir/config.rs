//! The settings of a `.git` (git-config(1), "Syntax").

use crate::spec::WorkingRepository;

/// Every fetch is of all branches. A history that is cut is one of a single branch, as git clones it.
const ALL_BRANCHES: &str = "+refs/heads/*:refs/remotes/origin/*";

/// Returns the settings of a repository.
pub(super) fn of(shown: &WorkingRepository) -> String {
    let branch = shown.branch.as_deref();
    let fetch = match branch {
        Some(name) if shown.depth > 0 => format!("+refs/heads/{name}:refs/remotes/origin/{name}"),
        _ => ALL_BRANCHES.to_owned(),
    };
    let mut text =
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
            .to_owned();
    text += &format!("[remote \"origin\"]\n\turl = {}\n\tfetch = {}\n", value(&shown.origin), value(&fetch));
    if let Some(name) = branch {
        let (section, merge) = (subsection(name), value(&format!("refs/heads/{name}")));
        text += &format!("[branch {section}]\n\tremote = origin\n\tmerge = {merge}\n");
    }
    text
}

/// A value in quotes.
fn value(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            // git has no way to write it, and no URL or name of a ref has it.
            '\0' => {}
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}

/// The second part of a section's name, in quotes. There git takes any character but a new line and a NUL, which no name
/// of a ref has.
fn subsection(name: &str) -> String {
    let mut quoted = "\"".to_owned();
    for character in name.chars().filter(|character| !matches!(character, '\n' | '\0')) {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(depth: u32, branch: Option<&str>, origin: &str) -> WorkingRepository {
        let shown = serde_json::json!({ "depth": depth, "branch": branch, "origin": origin });
        serde_json::from_value(shown).unwrap()
    }

    /// What libgit2 reads.
    fn read(text: &str) -> Vec<(String, String)> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("config");
        std::fs::write(&path, text).unwrap();
        let config = git2::Config::open(&path).unwrap();
        let mut found = Vec::new();
        config
            .entries(None)
            .unwrap()
            .for_each(|entry| found.push((entry.name().unwrap().to_owned(), entry.value().unwrap().to_owned())))
            .unwrap();
        found
    }

    fn get(found: &[(String, String)], name: &str) -> Option<String> {
        found.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn a_cut_history_follows_its_branch_and_a_whole_one_follows_all() {
        for (depth, branch, fetch) in [
            (1, Some("main"), "+refs/heads/main:refs/remotes/origin/main"),
            (0, Some("main"), ALL_BRANCHES),
            (1, None, ALL_BRANCHES),
        ] {
            let found = read(&of(&shown(depth, branch, "https://git.example.com/a.git")));
            assert_eq!(get(&found, "remote.origin.fetch").as_deref(), Some(fetch));
            assert_eq!(get(&found, "branch.main.merge"), branch.map(|name| format!("refs/heads/{name}")));
        }
    }

    proptest! {
        #[test]
        fn no_url_and_no_name_adds_a_setting(
            branch in "[a-z\"#;=\\]\\\\ü .$`'%&(){}|<>!,+-]{1,20}",
            origin in "[a-z\"#;=\\[\\]\\\\\n\t ü'$`]{1,40}",
        ) {
            let found = read(&of(&shown(1, Some(&branch), &origin)));
            prop_assert_eq!(found.len(), 8, "{:?}", found);
            prop_assert_eq!(get(&found, "remote.origin.url"), Some(origin));
            let merge = get(&found, &format!("branch.{branch}.merge"));
            prop_assert_eq!(merge, Some(format!("refs/heads/{branch}")));
        }
    }
}
