//! When what waits travels, without a timer: at once if nothing like it is on its way, else once it is a fair part of
//! that, since those that gather meanwhile share a message, an entry of the log, and everything that follows from it.

/// What waits is enough once it is this part of what is on its way. A sixteenth made the rate a fifth less and tasks
/// under little load no faster.
const PART: usize = 4;
/// So many are enough, whatever is on its way.
const FULL: usize = 128;

/// Whether `waiting` things may leave while `outstanding` like them have no answer. Whoever is told no asks again at
/// each answer, so the last of them is never left behind.
pub fn is_enough(waiting: usize, outstanding: usize) -> bool {
    waiting >= (outstanding / PART).min(FULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alone_leaves_at_once_and_many_leave_together() {
        assert!(is_enough(1, 0) && is_enough(1, 7));
        assert!(!is_enough(1, 8) && is_enough(2, 8));
        assert!(!is_enough(127, 100_000) && is_enough(128, 100_000));
    }
}
