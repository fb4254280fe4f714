//! File of the sessions that were ended on this host. The inventory of the state directory keeps its digest, so that a file
//! that was lost, damaged, set back or replaced by another host's does not revive a session.

use std::path::{Path, PathBuf};

use crate::dataplane::decide::Now;
use crate::dataplane::decide::session::ended::Ended;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::inventory::{Inventory, NotedSessions, set_aside};
use crate::dataplane::node::state::Live;
use crate::platform::private_file::write_private;

/// Name of the file in the state directory.
const FILE: &str = "ended-sessions.json";

/// File of the ended sessions, and its entry in the inventory.
#[derive(Debug)]
pub(super) struct EndedFile {
    path: PathBuf,
    inventory: Inventory,
}

impl EndedFile {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE), inventory: Inventory::new(state_dir) }
    }

    /// Reads the file. If it is not the very file that this host wrote last, it is unknown which sessions were ended, so
    /// every session that began until now counts as ended.
    pub(super) fn read(&self, live: &Live, now: Now) -> Ended {
        let noted = self.inventory.ended_sessions();
        let found = std::fs::read(&self.path);
        if let (Ok(Some(noted)), Ok(text)) = (&noted, &found)
            && noted.digest == digest_of(text)
            && let Ok(ended) = serde_json::from_slice(text)
        {
            return ended;
        }
        // Without an entry in the inventory this is a first start, or the inventory was lost.
        if !matches!(noted, Ok(None)) {
            let moved = match set_aside(&self.path, now.wall) {
                Ok(aside) if found.is_ok() => format!("; what was left was moved to {}", aside.display()),
                _ => String::new(),
            };
            let what = format!(
                "{} is not the file that this host wrote last: every browser session that began until now has ended{moved}",
                self.path.display()
            );
            live.alarms.raise(AlarmKind::Damaged, &what, now.wall);
        }
        let mut ended = Ended::default();
        // A session begins a second after every time until which all have ended. So a session of the start before this one
        // may have begun a second after the floor, which is stored ahead of the time.
        ended.add_all_until(now.effective().plus(1));
        // A session may have begun while the clock was ahead, or the clock may be behind now.
        let left = found.ok().and_then(|text| serde_json::from_slice::<Ended>(&text).ok());
        let noted = noted.ok().flatten().and_then(|noted| noted.latest);
        noted.into_iter().chain(left.and_then(|left| left.latest())).for_each(|at| ended.add_all_until(at));
        if let Err(error) = self.write(&ended) {
            // The ends are in force nevertheless. The next start will find no file that it can trust either.
            tracing::warn!(%error, path = %self.path.display(), "the file of ended sessions can't be written");
        }
        ended
    }

    /// Writes the file and its entry. If only one of them is written, the next start believes neither.
    pub(super) fn write(&self, ended: &Ended) -> std::io::Result<()> {
        let text = serde_json::to_vec(ended)?;
        let noted = NotedSessions { digest: digest_of(&text), latest: ended.latest() };
        self.inventory.note_ended_sessions(noted).map_err(std::io::Error::other)?;
        write_private(&self.path, &text)
    }
}

fn digest_of(text: &[u8]) -> String {
    blake3::hash(text).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::dataplane::decide::snapshot::Snapshot;
    use crate::protocol::id::SessionId;
    use crate::protocol::time::Time;

    type Loss = fn(&Path);

    const T: Time = Time::from_unix(1_800_000_000);

    fn id(number: u8) -> SessionId {
        format!("ses_{number}").parse().unwrap()
    }

    /// Starts at `seconds` after T; returns the ended sessions, and true if the start raised an alarm.
    fn start(directory: &Path, seconds: i64) -> (Ended, bool) {
        let now = Now { wall: T.plus(seconds), floor: T };
        let live = Live::new(Snapshot::absent(), T, now.wall);
        let ended = EndedFile::new(directory).read(&live, now);
        (ended, live.alarms.count(AlarmKind::Damaged) > 0)
    }

    #[test]
    fn no_loss_of_the_file_opens_a_session_that_was_ended() {
        let (before, file) = ((&id(1), T.plus(10)), "ended-sessions.json");
        let losses: [(Loss, bool); 7] = [
            (|file| std::fs::remove_file(file).unwrap(), true),
            (|file| std::fs::write(file, "").unwrap(), true),
            (|file| std::fs::write(file, &std::fs::read(file).unwrap()[..9]).unwrap(), true),
            (|file| std::fs::write(file, "{\"before\":null,\"listed\":{}}").unwrap(), true),
            // The file as it was before the session was ended.
            (|file| assert!(std::fs::copy(file.with_file_name("older"), file).unwrap() > 0), true),
            (|file| std::fs::remove_file(file.with_file_name("databases.json")).unwrap(), false),
            (
                |file| {
                    std::fs::remove_file(file).unwrap();
                    std::fs::remove_file(file.with_file_name("databases.json")).unwrap();
                },
                false,
            ),
        ];
        for (number, (lose, told)) in losses.into_iter().enumerate() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(file);
            let (mut ended, alarm) = start(directory.path(), 1);
            assert!(!alarm, "a first start is no loss");
            assert!(!ended.holds(before.0, before.1));
            std::fs::copy(&path, directory.path().join("older")).unwrap();
            ended.add(before.0, before.1, T);
            EndedFile::new(directory.path()).write(&ended).unwrap();
            assert_eq!(start(directory.path(), 20), (ended.clone(), false), "{number}");
            lose(&path);
            let (anew, alarm) = start(directory.path(), 30);
            assert!(anew.holds(before.0, before.1) && alarm == told, "{number}: {alarm}");
            assert!(!anew.holds(&id(2), T.plus(32)), "{number}");
            assert_eq!(start(directory.path(), 40), (anew, false), "{number}: it is told once");
            // The clock is behind the beginning of the session now.
            ended.add(before.0, before.1, T);
            EndedFile::new(directory.path()).write(&ended).unwrap();
            lose(&path);
            assert!(!told || start(directory.path(), -600).0.holds(before.0, before.1), "{number}");
        }
    }
}
