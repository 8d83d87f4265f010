//! Runs futures, and kills them.

use std::{future::Future, task::Poll, time::Duration};

/// Runs a future to its end. Tasks run on this thread, and heavy work on one other, for which this one
/// waits: so things happen in the same order each time.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::from_secs(3600))
        .build()
        .expect("a runtime needs nothing");
    runtime.block_on(future)
}

/// Runs a future until it has waited so many times, and drops it then: as a process that is killed.
pub async fn killed_after<F: Future>(waits: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = waits;
    std::future::poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_killed_gets_no_further() {
        let waits_twice = async || {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(block_on(killed_after(1, waits_twice())), None);
        assert_eq!(block_on(killed_after(2, waits_twice())), Some(7));
    }
}
