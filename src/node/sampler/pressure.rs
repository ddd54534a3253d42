//! Reads pressure stall information: the share of time in which some runnable work had to wait.

use super::read;
use super::window::Window;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kernel's own `avg10` lags by seconds; the growth of `total` over this span does not.
const SPAN: Duration = Duration::from_secs(2);

/// One resource's pressure file.
#[derive(Debug)]
pub(super) struct Pressure {
    path: PathBuf,
    window: Window,
    present: bool,
}

impl Pressure {
    /// The pressure of `resource` (`cpu`, `memory`) below `root`.
    pub(super) fn new(root: &Path, resource: &str) -> Self {
        let path = root.join("proc/pressure").join(resource);
        Pressure { path, window: Window::new(SPAN), present: false }
    }

    /// The stalled share in [0, 1]; `None` where the kernel does not say, or before there are two readings.
    pub(super) fn read(&mut self, now: Duration) -> Option<f64> {
        let total_us = read(&self.path).as_deref().and_then(some_total_us);
        self.present = total_us.is_some();
        let growth = self.window.push(now, total_us? as f64)?;
        Some((growth.amount / 1e6 / growth.seconds).clamp(0.0, 1.0))
    }

    /// Whether the last reading found the file.
    pub(super) fn present(&self) -> bool {
        self.present
    }
}

/// `total` of the line `some avg10=.. avg60=.. avg300=.. total=..`, in microseconds.
fn some_total_us(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_total_of_the_some_line_counts() {
        let text = "some avg10=0.49 avg60=0.74 avg300=1.48 total=55317981\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(some_total_us(text), Some(55_317_981));
        for bad in ["", "full total=3", "some avg10=0.0", "some total=-1", "some total=1e9"] {
            assert_eq!(some_total_us(bad), None, "{bad:?}");
        }
    }
}
