//! One call at one address after the other, until one answers.

use super::{Upstream, UpstreamError, no_address};

/// Addresses at which a call was not tried yet.
pub(super) struct Attempts<'a> {
    upstream: &'a Upstream,
    path: &'a str,
    waiting: std::vec::IntoIter<(usize, &'a str)>,
    /// Address that is asked now.
    asked: Option<usize>,
    last: Option<UpstreamError>,
}

impl Upstream {
    /// Begins the attempts at a call of `path`.
    pub(super) fn attempts<'a>(&'a self, path: &'a str) -> Attempts<'a> {
        let waiting = self.addresses.in_turn().into_iter();
        Attempts { upstream: self, path, waiting, asked: None, last: None }
    }
}

impl Attempts<'_> {
    /// Returns the URL to be asked next.
    pub(super) fn next_url(&mut self) -> Option<String> {
        let (place, url) = self.waiting.next()?;
        self.asked = Some(place);
        Some(format!("{url}{}", self.path))
    }

    /// Notes the result of the call at the address that was asked. Returns it if it ends the call, and `None` if the next
    /// address is to be asked.
    pub(super) fn settle<T>(&mut self, result: Result<T, UpstreamError>) -> Option<Result<T, UpstreamError>> {
        let (addresses, asked) = (&self.upstream.addresses, self.asked.take());
        match result {
            Ok(answer) => {
                if let Some(place) = asked {
                    addresses.prefer(place);
                }
                Some(Ok(answer))
            }
            // A refusal is the same at all addresses of the control plane.
            Err(error @ UpstreamError::Answer { status, .. }) if status.is_client_error() => Some(Err(error)),
            Err(error) => {
                if let Some(place) = asked {
                    addresses.put_last(place);
                }
                self.last = Some(error);
                None
            }
        }
    }

    /// Returns the error of a call that no address answered: that of the last one.
    pub(super) fn failure(self) -> UpstreamError {
        self.last.unwrap_or_else(no_address)
    }
}
