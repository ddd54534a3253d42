//! What nobody can beat: the least makespan, and one queue for all places without any delay.

use super::workload::Job;
use std::time::Duration;

/// `max(work / speed of all places, longest task / fastest place)`.
pub fn lower_bound(jobs: &[Job], speeds: &[f64], slots: u32) -> Duration {
    let work: f64 = jobs.iter().map(|job| job.takes.as_secs_f64()).sum();
    let longest = jobs.iter().map(|job| job.takes.as_secs_f64()).fold(0.0, f64::max);
    let fastest = speeds.iter().copied().fold(0.0, f64::max);
    let together = speeds.iter().sum::<f64>() * f64::from(slots);
    Duration::from_secs_f64((work / together).max(longest / fastest))
}

/// How long each task stays where a single queue, first come first served, feeds the fastest free place at once.
pub fn central_queue(jobs: &[Job], speeds: &[f64], slots: u32) -> Vec<Duration> {
    let mut places: Vec<(Duration, f64)> =
        speeds.iter().flat_map(|speed| (0..slots).map(|_| (Duration::ZERO, *speed))).collect();
    // The fastest first: among the free ones the first is taken.
    places.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut stays = Vec::with_capacity(jobs.len());
    for job in jobs {
        let free = places.iter().position(|(free_at, _)| *free_at <= job.comes);
        let soonest = || {
            let by_time = places.iter().enumerate().min_by_key(|(_, (free_at, _))| *free_at);
            by_time.map_or(0, |(place, _)| place)
        };
        let place = free.unwrap_or_else(soonest);
        let Some((free_at, speed)) = places.get_mut(place) else { return stays };
        let ends = job.comes.max(*free_at) + job.takes.div_f64(*speed);
        *free_at = ends;
        stays.push(ends - job.comes);
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(takes_ms: u64, comes_ms: u64) -> Job {
        let (takes, comes) = (Duration::from_millis(takes_ms), Duration::from_millis(comes_ms));
        Job { takes, comes, class: 0 }
    }

    #[test]
    fn the_bound_is_the_work_shared_out_or_the_longest_task() {
        let ms = Duration::from_millis;
        assert_eq!(lower_bound(&[job(10, 0), job(10, 0), job(20, 0)], &[1.0, 1.0], 1), ms(20));
        assert_eq!(lower_bound(&[job(40, 0), job(10, 0)], &[1.0, 2.0], 2), ms(20));
    }

    #[test]
    fn a_central_queue_serves_in_order_and_prefers_the_fast() {
        let jobs = [job(10, 0), job(10, 0), job(10, 1), job(10, 100)];
        let stays = central_queue(&jobs, &[1.0, 2.0], 1);
        let ms: Vec<u128> = stays.iter().map(|stay| stay.as_millis()).collect();
        assert_eq!(ms, [5, 10, 9, 5]);
    }
}
