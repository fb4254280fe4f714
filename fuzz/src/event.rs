//! Events and checkpoints of an audit log.

use halligan::protocol::event::{Checkpoint, Draft, Event, line_hash, place};
use halligan::protocol::jws::{Typ, Unverified, sign};

use super::{WORLD, survives};

/// Checks that reading an event keeps all its content, that both writers of lines write the same line, and that
/// different lines have different hashes. A signed checkpoint is the same after writing.
pub fn check(data: &[u8]) -> bool {
    let text = sign(Typ::AuditCheckpoint, data, &WORLD.token);
    let signed = Unverified::parse(text.as_bytes(), 4096)
        .and_then(|jws| jws.verify(Typ::AuditCheckpoint, WORLD.token.public()));
    let checkpoint =
        signed.and_then(|signed| signed.claims::<Checkpoint>()).is_ok_and(|it| !survives(&it).is_empty());
    let Ok(line) = std::str::from_utf8(data) else { return checkpoint };
    let Ok(event) = serde_json::from_str::<Event>(line) else { return checkpoint };
    let written = survives(&event);
    assert!(!written.contains('\n'), "an event takes one line");
    assert_eq!(line_hash(&written) == line_hash(line), written == line);
    // The daemon writes its own codes and identifiers without escaping, because they contain nothing that JSON would
    // escape.
    let words = [Some(&*event.prev), Some(&*event.id), event.decision.as_deref(), event.reason.as_deref()];
    let words = words.into_iter().chain([event.permission.as_deref(), event.glass.as_deref()]).flatten();
    if words.flat_map(str::bytes).all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        let (mut json, mut placed) = (Vec::new(), String::new());
        draft(&event).write(&mut json);
        place(event.sequence, &event.prev, std::str::from_utf8(&json).unwrap(), &mut placed);
        assert_eq!(placed, written);
    }
    true
}

/// Returns the event without its place in the log.
fn draft(event: &Event) -> Draft<'_> {
    Draft {
        decision: event.decision.as_deref(),
        reason: event.reason.as_deref(),
        token: event.token.as_ref(),
        generation: event.generation,
        role: event.role.as_ref(),
        deployment: event.deployment.as_ref(),
        method: event.method.as_deref(),
        route: event.route.as_deref(),
        path: event.path.as_deref(),
        permission: event.permission.as_deref(),
        client: event.client,
        glass: event.glass.as_deref(),
        operator: event.operator.as_deref(),
        because: event.because.as_deref(),
        until: event.until,
        ..Draft::new(event.kind, &event.id, event.time, &event.node, event.connectivity)
    }
}
