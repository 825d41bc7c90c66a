//! What the server's processes take of the machine, as Linux tells it under `/proc`.

use std::fs;
use std::io;

/// The processes of the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Processes(Vec<u32>);

/// Clock ticks a second in `/proc/PID/stat`: the same on every Linux.
const TICKS: f64 = 100.0;

impl Processes {
    /// # Errors
    /// When there is no such process, or the system does not tell.
    pub(super) fn new(ids: Vec<u32>) -> Result<Self, String> {
        let processes = Self(ids);
        processes.read().map_err(|error| format!("what the server takes cannot be read under /proc: {error}"))?;
        Ok(processes)
    }

    /// This process alone.
    pub(super) fn this() -> Self {
        Self(vec![std::process::id()])
    }

    /// Seconds of all processors so far; `None` without a process.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        self.read().ok().flatten().map(|(seconds, _)| seconds)
    }

    /// Bytes of resident memory.
    pub(super) fn memory(&self) -> Option<u64> {
        self.read().ok().flatten().map(|(_, bytes)| bytes)
    }

    fn read(&self) -> io::Result<Option<(f64, u64)>> {
        let mut sum = None;
        for id in &self.0 {
            let (seconds, bytes) = sum.unwrap_or((0.0, 0));
            sum = Some((seconds + cpu_seconds(*id)?, bytes + memory(*id)?));
        }
        Ok(sum)
    }
}

/// The threads that live are told of by the nanosecond, those that have ended in ticks of the whole process only.
fn cpu_seconds(id: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let ticks = ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
    let mut nanos = 0.0;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        // One that has just ended, or a kernel that does not tell.
        let Ok(schedstat) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanos += schedstat.split(' ').next().and_then(|ran| ran.parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok((nanos / 1e9).max(ticks / TICKS))
}

/// `utime` and `stime`, which are fields 14 and 15; the name in field 2 may have anything in it.
fn ticks(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn memory(id: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or(io::ErrorKind::InvalidData)?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_stand_behind_any_name() {
        let stat = "77 (a) b) S 1 77 77 0 -1 4194304 100 0 0 0 250 50 7 7 20 0 4 0 100 1000 10";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("77 (a) S"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_time() {
        let this = Processes::new(vec![std::process::id()]).unwrap();
        let before = this.cpu_seconds().unwrap();
        let mut sum = 0_u64;
        while this.cpu_seconds().unwrap() <= before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(this.memory().unwrap() > 100_000);
        assert!(Processes::default().cpu_seconds().is_none());
        assert!(Processes::new(vec![u32::MAX]).is_err());
    }
}
