//! The documents as a book: every page stands in the index, and no link leads nowhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of a folder of the repository.
fn pages(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

/// Where the links of a page lead that stay in the repository: the file, and the heading after `#`.
fn links(page: &Path) -> Vec<(PathBuf, Option<String>)> {
    let text = fs::read_to_string(page).unwrap();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let inside = targets.filter(|target| !target.contains("://") && !target.is_empty() && !target.contains(' '));
    inside
        .map(|target| {
            let (file, heading) =
                target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
            let file = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
            (file, heading.map(str::to_owned))
        })
        .collect()
}

/// A page's headings as links name them.
fn headings(page: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(page).unwrap();
    let names = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    names
        .map(|name| {
            let kept = name.to_lowercase().replace(' ', "-");
            kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
        })
        .collect()
}

#[test]
fn every_page_of_the_book_stands_in_its_index() {
    let index = root().join("docs/README.md");
    let listed: BTreeSet<PathBuf> =
        links(&index).into_iter().filter_map(|(file, _)| file.canonicalize().ok()).collect();
    for page in pages("docs").into_iter().chain(pages("docs/statements")).filter(|page| *page != index) {
        assert!(listed.contains(&page.canonicalize().unwrap()), "{} is not in docs/README.md", page.display());
    }
}

#[test]
fn no_link_of_the_documents_leads_nowhere() {
    let all = ["", "docs", "docs/statements", "docs/decisions"].into_iter().flat_map(pages);
    for page in all {
        for (file, heading) in links(&page) {
            assert!(file.exists(), "{}: there is no {}", page.display(), file.display());
            let there = heading.as_ref().is_none_or(|heading| headings(&file).contains(heading));
            assert!(there, "{}: {} has no heading {heading:?}", page.display(), file.display());
        }
    }
}
