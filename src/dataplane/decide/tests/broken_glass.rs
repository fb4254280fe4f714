//! Decisions while the glass of a deployment is sealed or broken.

use super::*;

#[test]
fn sealed_glass_lets_nobody_in_and_broken_glass_only_those_who_may() {
    check(&[
        (Reason::GlassSealed, |w| w.keep(GlassMode::Sealed)),
        (Reason::GlassSealed, |w| w.keep(GlassMode::Outage)),
        (Reason::GlassSealed, |w| {
            w.keep(GlassMode::Sealed);
            w.local.outage = true;
        }),
        (Reason::GlassSealed, |w| {
            w.keep(GlassMode::Sealed);
            w.break_until(60);
        }),
        (Reason::GlassSealed, |w| {
            // By the clock it still lasts; by the time floor it has ended.
            w.keep(GlassMode::Sealed);
            w.break_until(61);
            w.now = Now { wall: T0.plus(60), floor: T0.plus(61) };
        }),
        (Reason::Ok, |w| {
            w.keep(GlassMode::Sealed);
            w.break_until(61);
        }),
        (Reason::Ok, |w| {
            w.keep(GlassMode::Outage);
            w.break_until(61);
        }),
        (Reason::Ok, |w| {
            w.keep(GlassMode::Outage);
            w.local.outage = true;
        }),
        // Broken glass gives nothing to a token that is dead or lacks the permission.
        (Reason::TokenRevoked, |w| {
            w.keep(GlassMode::Sealed);
            w.break_until(61);
            w.record.revoked_at = Some(T0);
        }),
        (Reason::WrongDeployment, |w| {
            w.keep(GlassMode::Sealed);
            w.break_until(61);
            w.target = Target::Id("dep_b");
        }),
    ]);
}
