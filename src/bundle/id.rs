//! Container ids.

use crate::error::{Error, Result};

/// The longest id, in bytes: it becomes a file name and part of paths, and runc's callers stay far below.
const LONGEST: usize = 1024;

/// Checks that `id` is a container's id: letters, digits, `_`, `+`, `.` and `-` of ASCII, not `.` or `..`, at most 1024 bytes.
///
/// An id is used as the name of a directory, so this is also what keeps a caller's id inside the store.
///
/// # Errors
/// `Kind::Config` with the reason.
pub fn check_id(id: &str) -> Result<()> {
    let reason = if id.is_empty() {
        "is empty".to_owned()
    } else if id.len() > LONGEST {
        return Err(Error::config(format!("container id: {} bytes are more than {LONGEST}", id.len())));
    } else if id == "." || id == ".." {
        "is a directory's name for itself or its parent".to_owned()
    } else if let Some(wrong) = id.chars().find(|c| !(c.is_ascii_alphanumeric() || "_+.-".contains(*c))) {
        format!("has {wrong:?} in it, and only A-Z a-z 0-9 _ + . - may be")
    } else {
        return Ok(());
    };
    Err(Error::config(format!("container id {id:?} {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_engines_use_are_taken() {
        for id in ["a", "ubuntu01", "4f66ad9a0b2e", "k8s_pod-1.2+x", "...", "-", &"x".repeat(1024)] {
            assert_eq!(check_id(id), Ok(()), "{id}");
        }
    }

    #[test]
    fn ids_that_leave_the_store_or_confuse_are_refused() {
        for id in ["", ".", "..", "a/b", "../a", "a b", "a\n", "é", "a:b", "\0", &"x".repeat(1025)] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        assert_eq!(
            check_id("a/b").unwrap_err().to_string(),
            r#"container id "a/b" has '/' in it, and only A-Z a-z 0-9 _ + . - may be"#
        );
    }
}
