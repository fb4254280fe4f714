//! Checks the names of an archive's entries: each is a new place below the archive's root, and all together are within
//! bounds. It does not depend on the format of the archive.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use thiserror::Error;

use super::{MAX_DEPTH, MAX_ENTRIES, MAX_NAME, MAX_PATH, MAX_UNPACKED};

/// Reasons to refuse an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TreeFault {
    /// The name is not UTF-8, or has control characters.
    #[error("its name is not readable text")]
    Text,
    /// The name begins at the root of the file system.
    #[error("its name is absolute")]
    Absolute,
    /// The name has `..`, `.` or an empty part.
    #[error("its name has \"..\", \".\" or an empty part")]
    Dots,
    /// The name is too long.
    #[error("its name has more than {MAX_PATH} bytes, or a part of more than {MAX_NAME}")]
    Long,
    /// The name has too many parts.
    #[error("it lies more than {MAX_DEPTH} directories deep")]
    Deep,
    /// The entry is a symbolic or hard link.
    #[error("it is a link; an archive holds files and directories only")]
    Link,
    /// The entry is a device, a pipe or of an unknown kind.
    #[error("it is neither a file nor a directory")]
    Kind,
    /// An entry of this name, or a file in place of one of its directories, came before.
    #[error("an entry before it has the same name, or is a file where this one needs a directory")]
    Duplicate,
    /// The archive has too many entries.
    #[error("the archive has more than {MAX_ENTRIES} files and directories")]
    Many,
    /// The files are too large together.
    #[error("the archive's files have more than {MAX_UNPACKED} bytes together")]
    Large,
}

/// State of one place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    File,
    Directory,
    /// Directory that only a longer name has named. Its own entry may follow.
    Implied,
}

/// Entries of an archive up to now.
///
/// ```
/// use halligan::protocol::deploy::tree::{Tree, TreeFault};
///
/// let mut tree = Tree::default();
/// assert_eq!(tree.file(b"./dags/sales.py", 120), Ok(("dags/sales.py", vec!["dags"])));
/// assert_eq!(tree.file(b"dags/sales.py", 120), Err(TreeFault::Duplicate));
/// assert_eq!(tree.file(b"../sales.py", 120), Err(TreeFault::Dots));
/// ```
#[derive(Default)]
pub struct Tree {
    /// Places by the hash of their path: the paths of an archive can have 100 MB together.
    places: HashMap<[u8; 32], Place>,
    bytes: u64,
}

impl Tree {
    /// Adds a file of `size` bytes, and returns its path without a leading `./`, and the directories that it lies in
    /// and that were not named before, outermost first.
    pub fn file<'n>(&mut self, name: &'n [u8], size: u64) -> Result<(&'n str, Vec<&'n str>), TreeFault> {
        self.content(size)?;
        let path = path(name)?;
        if path.is_empty() {
            return Err(TreeFault::Dots);
        }
        let parents = self.parents(path)?;
        match self.places.entry(hash(path)) {
            Slot::Occupied(_) => return Err(TreeFault::Duplicate),
            Slot::Vacant(slot) => slot.insert(Place::File),
        };
        self.count()?;
        Ok((path, parents))
    }

    /// Adds a directory, whose name may end with `/`, and returns the directories that are to be made: it and those that it
    /// lies in, outermost first, without those that were named before. The root is not among them.
    ///
    /// ```
    /// use halligan::protocol::deploy::tree::{Tree, TreeFault};
    ///
    /// let mut tree = Tree::default();
    /// assert_eq!(tree.directory(b"./dags/etl/"), Ok(vec!["dags", "dags/etl"]));
    /// // The entry of a directory may follow the longer name that implied it.
    /// assert_eq!(tree.directory(b"dags"), Ok(vec![]));
    /// assert_eq!(tree.directory(b"dags"), Err(TreeFault::Duplicate));
    /// assert_eq!(tree.directory(b"/etc"), Err(TreeFault::Absolute));
    /// ```
    pub fn directory<'n>(&mut self, name: &'n [u8]) -> Result<Vec<&'n str>, TreeFault> {
        let path = path(name.strip_suffix(b"/").unwrap_or(name))?;
        let mut made = if path.is_empty() { Vec::new() } else { self.parents(path)? };
        match self.places.entry(hash(path)) {
            Slot::Occupied(mut slot) if *slot.get() == Place::Implied => {
                slot.insert(Place::Directory);
                return Ok(made);
            }
            Slot::Occupied(_) => return Err(TreeFault::Duplicate),
            Slot::Vacant(slot) => slot.insert(Place::Directory),
        };
        self.count()?;
        if !path.is_empty() {
            made.push(path);
        }
        Ok(made)
    }

    /// Counts bytes that an archive holds, also those of headers, which belong to no file. Fails with [`TreeFault::Large`]
    /// if there are too many.
    ///
    /// ```
    /// use halligan::protocol::deploy::MAX_UNPACKED;
    /// use halligan::protocol::deploy::tree::{Tree, TreeFault};
    ///
    /// let mut tree = Tree::default();
    /// assert_eq!(tree.content(MAX_UNPACKED), Ok(()));
    /// assert_eq!(tree.content(1), Err(TreeFault::Large));
    /// ```
    pub fn content(&mut self, size: u64) -> Result<(), TreeFault> {
        self.bytes =
            self.bytes.checked_add(size).filter(|all| *all <= MAX_UNPACKED).ok_or(TreeFault::Large)?;
        Ok(())
    }

    /// Returns the number of entries, including directories that occur only as a part of longer names.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.places.len()
    }

    /// Returns the number of bytes that were counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn parents<'n>(&mut self, path: &'n str) -> Result<Vec<&'n str>, TreeFault> {
        let mut made = Vec::new();
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            match self.places.entry(hash(parent)) {
                Slot::Occupied(slot) if *slot.get() == Place::File => return Err(TreeFault::Duplicate),
                Slot::Occupied(_) => continue,
                Slot::Vacant(slot) => slot.insert(Place::Implied),
            };
            self.count()?;
            made.push(parent);
        }
        Ok(made)
    }

    fn count(&self) -> Result<(), TreeFault> {
        if self.places.len() > MAX_ENTRIES { Err(TreeFault::Many) } else { Ok(()) }
    }
}

fn hash(path: &str) -> [u8; 32] {
    *blake3::hash(path.as_bytes()).as_bytes()
}

/// Checks a name and returns it without a leading `./`; the root's is empty.
fn path(name: &[u8]) -> Result<&str, TreeFault> {
    if name.len() > MAX_PATH {
        return Err(TreeFault::Long);
    }
    let name = std::str::from_utf8(name).map_err(|_| TreeFault::Text)?;
    if name.chars().any(char::is_control) {
        return Err(TreeFault::Text);
    }
    if name.starts_with('/') {
        return Err(TreeFault::Absolute);
    }
    // `tar -C folder .` names the root `./` and every entry `./NAME`.
    if name == "." {
        return Ok("");
    }
    let path = name.strip_prefix("./").unwrap_or(name);
    let mut parts = 0;
    for part in path.split('/') {
        parts += 1;
        match part {
            "" | "." | ".." => return Err(TreeFault::Dots),
            long if long.len() > MAX_NAME => return Err(TreeFault::Long),
            _ if parts > MAX_DEPTH => return Err(TreeFault::Deep),
            _ => {}
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_stays_below_the_root() {
        for (name, path) in [
            ("a", "a"),
            ("./a/b.py", "a/b.py"),
            ("...", "..."),
            ("a b/ä", "a b/ä"),
            (".airflowignore", ".airflowignore"),
        ] {
            assert_eq!(Tree::default().file(name.as_bytes(), 0).unwrap().0, path);
        }
        let long = "x".repeat(256);
        let deep = vec!["d"; MAX_DEPTH + 1].join("/");
        let path = vec!["x".repeat(200); 6].join("/");
        for (name, fault) in [
            ("", TreeFault::Dots),
            (".", TreeFault::Dots),
            ("..", TreeFault::Dots),
            ("../a", TreeFault::Dots),
            ("a/../b", TreeFault::Dots),
            ("a/..", TreeFault::Dots),
            ("a/./b", TreeFault::Dots),
            ("a//b", TreeFault::Dots),
            ("a/", TreeFault::Dots),
            ("././a", TreeFault::Dots),
            (".//a", TreeFault::Dots),
            ("/a", TreeFault::Absolute),
            ("//a", TreeFault::Absolute),
            ("a\0b", TreeFault::Text),
            ("a\nb", TreeFault::Text),
            (&long, TreeFault::Long),
            (&path, TreeFault::Long),
            (&deep, TreeFault::Deep),
        ] {
            assert_eq!(Tree::default().file(name.as_bytes(), 0), Err(fault), "{name:?}");
        }
        assert_eq!(Tree::default().file(b"\xff", 0), Err(TreeFault::Text));
        for root in ["./", "."] {
            assert_eq!(Tree::default().directory(root.as_bytes()), Ok(vec![]), "{root:?}");
        }
        for bad in ["/", "../", "a//", "", ".."] {
            assert!(Tree::default().directory(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_place_is_taken_once() {
        let mut tree = Tree::default();
        assert_eq!(tree.file(b"a/b/c", 1), Ok(("a/b/c", vec!["a", "a/b"])));
        assert_eq!(tree.directory(b"a/b/"), Ok(vec![]), "its own entry may follow");
        assert_eq!(tree.directory(b"a/d"), Ok(vec!["a/d"]));
        for file in ["a/b/c", "./a/b/c", "a/b", "a", "a/d", "a/b/c/d"] {
            assert_eq!(tree.file(file.as_bytes(), 1), Err(TreeFault::Duplicate), "{file}");
        }
        for directory in ["a/b", "./a/b/", "a/d", "a/b/c", "a/b/c/d"] {
            assert_eq!(tree.directory(directory.as_bytes()), Err(TreeFault::Duplicate), "{directory}");
        }
        assert!(tree.directory(b"./").is_ok());
        assert_eq!(tree.directory(b"."), Err(TreeFault::Duplicate));
    }

    #[test]
    fn what_is_too_much_is_refused_before_it_is_unpacked() {
        let mut tree = Tree::default();
        tree.file(b"a", MAX_UNPACKED).unwrap();
        assert_eq!(tree.file(b"b", 1), Err(TreeFault::Large));
        assert_eq!(Tree::default().file(b"a", u64::MAX), Err(TreeFault::Large));
        let mut tree = Tree::default();
        for number in 0..MAX_ENTRIES {
            tree.file(number.to_string().as_bytes(), 0).unwrap();
        }
        assert_eq!(tree.file(b"one", 0), Err(TreeFault::Many));
        // Directories that only longer names name count too.
        let mut tree = Tree::default();
        let faults = (0..MAX_ENTRIES / 20).find_map(|number| {
            let name = format!("{number}/{}", vec!["d"; MAX_DEPTH - 1].join("/"));
            tree.file(name.as_bytes(), 0).err()
        });
        assert_eq!(faults, Some(TreeFault::Many));
    }

    proptest! {
        #[test]
        fn no_accepted_name_leaves_the_root(name in prop::collection::vec(prop::sample::select(b"./a\\\0 \xc3\xa4".to_vec()), 0..12)) {
            if let Ok((path, parents)) = Tree::default().file(&name, 0) {
                let parts = |path: &str| std::path::Path::new(path).components().count();
                prop_assert!(std::path::Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert_eq!(parents.len() + 1, parts(path));
            }
        }
    }
}
