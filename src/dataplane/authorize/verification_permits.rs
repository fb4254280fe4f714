//! Bounds the signatures that are verified at a time. A verification takes a hundred times as long as the rest of a
//! decision, and a forged token needs one each time, since only valid ones are remembered. Without a bound, tokens that are
//! known already would wait behind all forged ones that have arrived.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Permits for verifications, given in the order in which they were asked for.
#[derive(Debug)]
pub struct VerificationPermits {
    permits: Semaphore,
    waiting: AtomicUsize,
}

/// Right to verify one signature.
pub struct VerificationPermit<'t> {
    _permit: Option<SemaphorePermit<'t>>,
}

struct Waiting<'t>(&'t AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl VerificationPermits {
    /// Allows `most` verifications at a time.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { permits: Semaphore::new(most.max(1)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a turn, and lets this thread first serve requests that have arrived in the meantime.
    pub async fn next(&self) -> VerificationPermit<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        // The semaphore is never closed. If it were, verifying without a bound would be right.
        let permit = self.permits.acquire().await.ok();
        // The thread looks for new requests before it comes back here. Otherwise it would take all turns in a row.
        tokio::task::yield_now().await;
        VerificationPermit { _permit: permit }
    }

    /// Returns the number of requests that wait for a turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Default for VerificationPermits {
    /// Allows one verification at a time.
    fn default() -> Self {
        Self::new(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    #[tokio::test]
    async fn only_as_many_have_a_turn_as_are_allowed_and_the_rest_is_counted() {
        let turns = VerificationPermits::new(2);
        let (first, _second) = (turns.next().await, turns.next().await);
        let mut third = Box::pin(turns.next());
        assert!(poll_once(&mut third).await.is_none());
        assert_eq!(turns.waiting(), 1);
        drop(first);
        drop(third.await);
        assert_eq!(turns.waiting(), 0);
        // A request that is given up waits no more.
        let _third = turns.next().await;
        let mut fourth = Box::pin(turns.next());
        assert!(poll_once(&mut fourth).await.is_none());
        drop(fourth);
        assert_eq!(turns.waiting(), 0);
    }

    /// Polls a future once.
    async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            let polled = std::pin::Pin::new(&mut *future).poll(context);
            std::task::Poll::Ready(match polled {
                std::task::Poll::Ready(done) => Some(done),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn other_requests_are_served_between_two_turns() {
        let order = Rc::new(RefCell::new(String::new()));
        let turns = Rc::new(VerificationPermits::default());
        let local = LocalSet::new();
        for _ in 0..64 {
            let (order, turns) = (Rc::clone(&order), Rc::clone(&turns));
            local.spawn_local(async move {
                let _turn = turns.next().await;
                order.borrow_mut().push('c');
            });
        }
        let seen = Rc::clone(&order);
        local
            .run_until(async move {
                let hot = spawn_local(async move {
                    while seen.borrow().matches('c').count() < 60 {
                        seen.borrow_mut().push('h');
                        yield_now().await;
                    }
                });
                hot.await
            })
            .await
            .unwrap();
        assert!(!order.borrow().contains("ccc"), "{}", order.borrow());
    }
}
