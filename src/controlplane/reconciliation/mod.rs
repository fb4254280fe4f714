//! Reconciliation after an outage: the nodes' events, uses of tokens, revocations, reports.

pub mod events;
pub mod last_uses;
pub mod late_uses;
mod logs;
mod outage_report;
pub mod outages;
pub mod recorded;
pub mod revocations;
#[cfg(test)]
mod tests;
mod uploads;
mod uses;
