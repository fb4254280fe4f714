//! Report as an HTML page: one file, without scripts, pictures or external resources.

use std::fmt::Write as _;

use super::facts;
use crate::api::outage_report::OutageReport;
use crate::platform::text::escape_html;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}\
td,th{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0}th{font-weight:600;white-space:nowrap}\
.line{border-left:3px solid #bbb;padding:.15rem 0 .15rem 1rem}time{color:#555;font-variant-numeric:tabular-nums;margin-right:1rem}\
.outage{border-color:#555}.use{border-color:#2b7}.late-use{border-color:#c22;font-weight:600}\
.revocation{border-color:#d80}.alarm,.log{border-color:#c22}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}time{color:#aaa}}";

/// Returns the HTML page of a report. Its values are escaped: many were written by others, such as a path or a reason.
pub(super) fn page(report: &OutageReport) -> String {
    let title = format!("Outage {} on {}", report.id, report.node_name.as_ref().unwrap_or(&report.node_id));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style></head>\n\
         <body><h1>{0}</h1>\n<table>",
        escape_html(&title)
    );
    // Writing to a String cannot fail.
    for (name, value) in facts(report) {
        let _ = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", escape_html(&value));
    }
    page.push_str("</table>\n");
    if !report.tokens.is_empty() {
        page.push_str("<h2>Tokens</h2>\n<table><tr><th>token</th><th>name</th><th>uses</th><th>first</th><th>last</th></tr>\n");
        for token in &report.tokens {
            let name = token.name.as_deref().unwrap_or("-");
            let _ = writeln!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                token.token_id,
                escape_html(name),
                token.count,
                token.first_at,
                token.last_at
            );
        }
        page.push_str("</table>\n");
    }
    page.push_str("<h2>Timeline</h2>\n");
    for moment in &report.timeline {
        let (kind, what) = (escape_html(&moment.kind), escape_html(&moment.what));
        let _ = writeln!(page, "<div class=\"line {kind}\"><time>{}</time>{what}</div>", moment.time);
    }
    page.push_str("</body></html>\n");
    page
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::protocol::outage::{Opening, OutageState, Report};
    use crate::protocol::reconciliation::OutageStatement;
    use crate::protocol::time::Time;

    #[test]
    fn what_others_wrote_stays_text() {
        let statement = OutageStatement {
            id: "out_a".into(),
            began_at: Time::from_unix(0),
            ended_at: Time::from_unix(90),
            last_contact_at: None,
            cause: "<script>alert('x')</script>".into(),
            first_sequence: 1,
            last_sequence: 0,
            alarms: vec![],
        };
        let report = Report::open(Opening {
            node_id: "nod_a",
            node_name: Some("a\"b".into()),
            data_plane_id: "dpl_a",
            state: OutageState::Closed,
            statement: &statement,
            log_through: 0,
        });
        let page = page(&report.into());
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("a&quot;b") && page.contains("1 min 30 s"), "{page}");
    }
}
