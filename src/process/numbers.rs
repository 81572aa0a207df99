//! Lists of numbers as the kernel and the specification write sets of CPUs and of memory nodes: `0-3,7`.

/// The numbers of a list, each below `most`; none in an empty one.
pub fn list(text: &str, most: usize) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= most {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_numbers_and_ranges() {
        assert_eq!(list("0-3,7", 8).unwrap(), [0, 1, 2, 3, 7]);
        assert_eq!(list("", 8).unwrap(), [0_usize; 0]);
        for wrong in ["3-1", "0,", "a", "8", "1-2-3", "-1", " 1"] {
            assert_eq!(list(wrong, 8), None, "{wrong}");
        }
    }
}
