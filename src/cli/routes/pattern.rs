//! Patterns of path templates, for the analysis of which paths two of them share. The router does the matching of
//! requests.

use crate::dataplane::decide::routes::is_target;

/// Segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Exactly this text.
    Literal(String),
    /// Any one segment with this prefix and suffix.
    Parameter { name: String, prefix: String, suffix: String },
    /// All remaining segments, at least one.
    Rest(String),
}

impl Segment {
    fn read(text: &str) -> Self {
        let Some((prefix, rest)) = text.split_once('{').filter(|(_, rest)| !rest.starts_with('{')) else {
            return Self::Literal(text.replace("{{", "{").replace("}}", "}"));
        };
        let (name, suffix) = rest.split_once('}').unwrap_or((rest, ""));
        match name.strip_prefix('*').or_else(|| name.strip_suffix(":path")) {
            Some(name) => Self::Rest(name.to_owned()),
            None => Self::Parameter { name: name.into(), prefix: prefix.into(), suffix: suffix.into() },
        }
    }

    /// Returns a segment that both match, if there is one.
    fn common(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Literal(text), Self::Literal(other)) => (text == other).then(|| text.clone()),
            (Self::Literal(text), other) | (other, Self::Literal(text)) => {
                other.takes(text).then(|| text.clone())
            }
            (
                Self::Parameter { prefix, suffix, .. },
                Self::Parameter { prefix: other_prefix, suffix: other_suffix, .. },
            ) => {
                let longer = |a: &str, b: &str| if a.len() > b.len() { a.to_owned() } else { b.to_owned() };
                let text = longer(prefix, other_prefix) + "x" + &longer(suffix, other_suffix);
                (self.takes(&text) && other.takes(&text)).then_some(text)
            }
            (Self::Rest(_), other) | (other, Self::Rest(_)) => Some(other.example()),
        }
    }

    fn takes(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == text,
            Self::Parameter { prefix, suffix, .. } => {
                text.len() > prefix.len() + suffix.len() && text.starts_with(prefix) && text.ends_with(suffix)
            }
            Self::Rest(_) => !text.is_empty(),
        }
    }

    fn example(&self) -> String {
        match self {
            Self::Literal(text) => text.clone(),
            Self::Parameter { prefix, suffix, .. } => format!("{prefix}x{suffix}"),
            Self::Rest(_) => "x".into(),
        }
    }
}

/// Returns a path as a client sends it: characters that may not stand in a request target are percent-encoded.
/// Templates contain the decoded form.
pub(super) fn spelt(path: &str) -> String {
    path.bytes().fold(String::with_capacity(path.len()), |spelt, byte| {
        if is_target(&[byte]) {
            spelt + char::from(byte).encode_utf8(&mut [0; 4])
        } else {
            spelt + &format!("%{byte:02X}")
        }
    })
}

/// Parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) segments: Vec<Segment>,
}

impl Pattern {
    /// Parses a template. An invalid template gives a pattern of its segments as well.
    pub(super) fn read(template: &str) -> Self {
        Self { segments: template.trim_start_matches('/').split('/').map(Segment::read).collect() }
    }

    /// Returns a path that it matches.
    pub(super) fn example(&self) -> String {
        self.segments.iter().fold(String::new(), |path, segment| path + "/" + &segment.example())
    }

    /// Returns a path that both match, if there is one.
    pub(super) fn common(&self, other: &Self) -> Option<String> {
        let mut path = String::new();
        let (mut ours, mut theirs) = (self.segments.iter(), other.segments.iter());
        loop {
            // One of the two matches all remaining segments.
            let (rest, segment) = match (ours.next(), theirs.next()) {
                (None, None) => return Some(path),
                (Some(Segment::Rest(_)), Some(segment)) => (theirs, segment),
                (Some(segment), Some(Segment::Rest(_))) => (ours, segment),
                (Some(segment), Some(other)) => {
                    path = path + "/" + &segment.common(other)?;
                    continue;
                }
                _ => return None,
            };
            return Some(
                std::iter::once(segment)
                    .chain(rest)
                    .fold(path, |path, segment| path + "/" + &segment.example()),
            );
        }
    }

    /// Returns true if it matches a canonical path.
    pub(super) fn matches(&self, path: &str) -> bool {
        let mut parts = path.trim_start_matches('/').split('/');
        for segment in &self.segments {
            let Some(part) = parts.next() else { return false };
            match segment {
                Segment::Rest(_) => return !part.is_empty() || parts.next().is_some(),
                segment if segment.takes(part) => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }

    /// Returns the names of its parameters, from left to right.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Parameter { name, .. } | Segment::Rest(name) => Some(name.as_str()),
        })
    }

    /// Returns the template with unnamed parameters, which is the same for all spellings of one route.
    pub(super) fn shape(&self) -> String {
        self.segments.iter().fold(String::new(), |shape, segment| match segment {
            Segment::Literal(text) => shape + "/" + text,
            Segment::Parameter { prefix, suffix, .. } => format!("{shape}/{prefix}{{}}{suffix}"),
            Segment::Rest(_) => shape + "/{*}",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(a: &str, b: &str) -> Option<String> {
        let found = Pattern::read(a).common(&Pattern::read(b));
        assert_eq!(found, Pattern::read(b).common(&Pattern::read(a)), "{a} {b}");
        if let Some(path) = &found {
            assert!(Pattern::read(a).matches(path) && Pattern::read(b).matches(path), "{a} {b} {path}");
        }
        found
    }

    #[test]
    fn what_two_templates_share_is_a_path() {
        assert_eq!(common("/dags/{id}", "/dags/list").as_deref(), Some("/dags/list"));
        assert_eq!(common("/{a}/b", "/c/{d}").as_deref(), Some("/c/b"));
        assert_eq!(common("/img-{id}", "/{name}.png").as_deref(), Some("/img-x.png"));
        assert_eq!(common("/files/{*path}", "/files/{id}/raw").as_deref(), Some("/files/x/raw"));
        for (a, b) in [("/a", "/b"), ("/a/{x}", "/a"), ("/a/{x}", "/a/b/c"), ("/a-{x}", "/b-{x}")] {
            assert_eq!(common(a, b), None, "{a} {b}");
        }
    }

    #[test]
    fn the_shape_forgets_names() {
        assert_eq!(Pattern::read("/dags/{dag_id}/runs").shape(), Pattern::read("/dags/{id}/runs").shape());
        assert_eq!(Pattern::read("/a/{x}.json/{*rest}").shape(), "/a/{}.json/{*}");
        assert_eq!(Pattern::read("/a/{x}/{*rest}").parameters().collect::<Vec<_>>(), ["x", "rest"]);
    }
}
