//! The tasks of one accept loop: all of them end with it.

use std::collections::BTreeMap;
use std::future::Future;

use smol::Task;
use smol::channel::{Receiver, Sender, unbounded};

/// Tasks of the global executor. Dropped, it cancels those that still run.
#[derive(Debug)]
pub(crate) struct Tasks {
    running: BTreeMap<u64, Task<()>>,
    next: u64,
    /// Keys of tasks that have ended; never more than have been spawned and not taken out.
    ended: Receiver<u64>,
    ends: Sender<u64>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        let (ends, ended) = unbounded();
        Self { running: BTreeMap::new(), next: 0, ended, ends }
    }

    pub(crate) fn spawn(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        let key = self.next;
        self.next += 1;
        let end = End { key, ends: self.ends.clone() };
        let task = smol::spawn(async move {
            let _end = end;
            future.await;
        });
        self.running.insert(key, task);
    }

    /// Waits for a task to end, and gives its memory back.
    pub(crate) async fn reap(&mut self) {
        match self.ended.recv().await {
            Ok(key) => drop(self.running.remove(&key)),
            // The sender is our own and does not go away.
            Err(_) => smol::future::pending().await,
        }
    }
}

/// Tells of the end of its task as it drops: after the last poll, a panic or a cancellation.
struct End {
    key: u64,
    ends: Sender<u64>,
}

impl Drop for End {
    fn drop(&mut self) {
        // An error says that nobody counts any more.
        let _ = self.ends.try_send(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_ends_or_panics_is_forgotten() {
        let mut tasks = Tasks::new();
        tasks.spawn(async {});
        tasks.spawn(async { panic!("on purpose") });
        smol::block_on(async {
            tasks.reap().await;
            tasks.reap().await;
        });
        assert!(tasks.running.is_empty());
    }

    #[test]
    fn a_task_that_still_runs_is_cancelled_with_the_set() {
        let (sender, receiver) = unbounded::<()>();
        let mut tasks = Tasks::new();
        tasks.spawn(async move {
            let _held = sender;
            smol::future::pending().await
        });
        drop(tasks);
        // Closed, because the future that held the sender was dropped.
        assert!(smol::block_on(receiver.recv()).is_err());
    }
}
