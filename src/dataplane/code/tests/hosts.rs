//! Deploys that hosts take: on this host, and told by peers.

use super::*;

#[test]
fn a_push_is_in_force_at_once_after_a_restart_and_until_the_next_deploy_of_the_control_plane() {
    let mut host = Host::new();
    let (one, two, three) = (archive(&[("a.py", "1")]), archive(&[("a.py", "2")]), archive(&[("a.py", "3")]));
    let first = host.push(&one).unwrap();
    assert_eq!((first.base, first.seq, host.runs("a.py")), (0, 1, "1".into()));
    host.deploy(&signed("c1", 5, &two), &two);
    assert_eq!(host.runs("a.py"), "2");
    let second = host.push(&one).unwrap();
    let third = host.push(&three).unwrap();
    assert_eq!(((second.base, second.seq), (third.base, third.seq)), ((5, 1), (5, 2)));
    assert!(third.deploy.as_str().len() == 25 && second.deploy != third.deploy);
    host.restart();
    assert_eq!(host.runs("a.py"), "3");
    host.quiet();
    // The one in force is reported first, and those before the control plane's deploy last.
    let reports = host.code.to_report();
    let ids: Vec<_> = reports.iter().map(|report| report.deploy().to_owned()).collect();
    assert_eq!(ids, [&third, &second, &first].map(|deploy| deploy.deploy.to_string()));
    let answer = |state, by| HostDeployAnswer { state, by };
    assert!(!host.code.answered(&reports[0], &answer(HostDeployState::Wanted, None)));
    assert!(host.code.answered(&reports[0], &answer(HostDeployState::Stored, None)));
    let by = StandingDeploy { deploy: third.deploy.clone(), version: 6 };
    for report in &reports[1..] {
        assert!(host.code.answered(report, &answer(HostDeployState::Superseded, Some(by.clone()))));
    }
    assert_eq!(host.code.to_report().len(), 0);
    assert_eq!(host.runs("a.py"), "3");
    // It was adopted: the same archive under the same id, and nothing to fetch.
    assert_eq!(host.deploy(&Deploy { deploy: third.deploy.clone(), ..signed("c", 6, &three) }, &three), 0);
    let state = &host.code.states()[0];
    assert_eq!((state.version, state.host.is_some(), state.is_behind()), (6, false, false));
    assert_eq!(state.superseded.as_ref().unwrap().1, Some(by));
    host.code.check(NOW);
    assert_eq!(host.names(".jws"), 1, "what was answered goes");
    host.quiet();
}

#[test]
fn a_push_just_after_the_start_goes_on_from_what_is_on_the_disk() {
    let mut host = Host::new();
    let (one, two) = (archive(&[("a.py", "1")]), archive(&[("a.py", "2")]));
    host.deploy(&signed("c1", 5, &one), &one);
    host.push(&one).unwrap();
    (host.code, host.live) = Host::start(host.directory.path());
    host.live.replace(|_| snapshot(&["dep_a", "dep_b"]));
    let pushed = host.push(&two).unwrap();
    assert_eq!((pushed.base, pushed.seq), (5, 2));
    host.restart();
    assert_eq!(host.runs("a.py"), "2");
}

#[test]
fn a_refused_push_leaves_nothing_behind() {
    let host = Host::new();
    let one = archive(&[("a.py", "1")]);
    host.push(&one).unwrap();
    let mut link = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    link.append_link(&mut header, "a", "/etc/passwd").unwrap();
    let link = link.into_inner().unwrap().finish().unwrap();
    for bytes in [&one[..one.len() / 2], &link, b"no archive", b""] {
        assert!(matches!(host.push(bytes), Err(PushError::Refused(_))));
        assert_eq!((host.runs("a.py"), host.names(".part"), host.names(".new")), ("1".into(), 0, 0));
        assert_eq!((host.names(".jws"), host.names(".tar.gz")), (1, 1));
    }
    // While one arrives, no other does.
    let claim = host.code.claim(&"dep_a".parse().unwrap());
    assert!(claim.is_some() && host.code.claim(&"dep_a".parse().unwrap()).is_none());
    assert!(host.code.claim(&"dep_b".parse().unwrap()).is_some());
    drop(claim);
    assert!(host.code.claim(&"dep_a".parse().unwrap()).is_some());
}

#[test]
fn deploys_of_other_hosts_count_if_their_node_may_sign_and_nothing_ended_them() {
    let host = Host::new();
    let (one, two) = (archive(&[("a.py", "1")]), archive(&[("a.py", "2")]));
    host.deploy(&signed("c1", 5, &one), &one);
    let take = |text: &str| host.code.take_hosts([text].into_iter()).unwrap();
    assert_eq!(take(&host_deploy("nod_c", "h1", (5, 1), &two)), 0, "its node is retired");
    assert_eq!(take(&host_deploy("nod_b", "h1", (4, 1), &two)), 0, "version 5 ended it");
    let forged = host_deploy("nod_b", "h1", (5, 1), &two).replace('.', "..");
    assert_eq!(take(&forged), 0);
    let mut changes = host.code.changes();
    assert_eq!(take(&host_deploy("nod_b", "h1", (5, 1), &two)), 1);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(take(&host_deploy("nod_b", "h1", (5, 1), &two)), 0, "it is known");
    assert!(!changes.has_changed().unwrap());
    let wanted = host.code.wanted(NOW);
    assert_eq!((wanted.len(), wanted[0].signed), (1, false));
    assert_eq!(host.runs("a.py"), "1", "until its archive is here");
    host.fetch(&two);
    host.code.settle(false, NOW);
    assert_eq!(host.runs("a.py"), "2");
    assert_eq!(host.code.host_deploys(9).len(), 1);
    assert!(host.code.archive(&"dep_a".parse().unwrap(), &"h1".parse().unwrap()).is_some());
    assert!(host.code.archive(&"dep_b".parse().unwrap(), &"h1".parse().unwrap()).is_none());
    // One on top of a deploy that this host does not hold yet waits for it.
    assert_eq!(take(&host_deploy("nod_b", "h2", (9, 1), &one)), 1);
    assert_eq!((host.runs("a.py"), host.code.wanted(NOW).len()), ("2".into(), 0));
    host.quiet();
}

#[test]
fn no_peer_fills_the_disk_with_host_deploys() {
    let host = Host::new();
    let one = archive(&[("a.py", "1")]);
    for seq in 1..100 {
        let text = host_deploy("nod_b", &format!("h{seq}"), (0, seq), &one);
        assert_eq!(host.code.take_hosts([&*text].into_iter()).unwrap(), 1);
    }
    assert_eq!(host.names(".jws"), MAX_HOST_DEPLOYS);
    let least = host_deploy("nod_b", "h1", (0, 1), &one);
    assert_eq!(host.code.take_hosts([&*least].into_iter()).unwrap(), 0);
    assert_eq!(host.code.states()[0].deploy.as_ref().unwrap().as_str(), "h99");
}

#[test]
fn many_pushes_in_an_outage_fill_no_disk() {
    let mut host = Host::new();
    let mut last = None;
    for number in 0..MAX_HOST_DEPLOYS + 5 {
        last = Some(host.push(&archive(&[("a.py", &number.to_string())])).unwrap());
    }
    assert_eq!((host.names(".jws"), host.names(".tar.gz")), (MAX_HOST_DEPLOYS, 3));
    let last = last.unwrap();
    assert_eq!(last.seq, MAX_HOST_DEPLOYS as u64 + 5);
    host.restart();
    assert_eq!(host.runs("a.py"), (MAX_HOST_DEPLOYS + 4).to_string());
    let reports = host.code.to_report();
    assert_eq!((reports.len(), reports[0].deploy()), (MAX_HOST_DEPLOYS, last.deploy.as_str()));
    assert!(reports[0].archive.exists());
    host.quiet();
}

#[test]
fn what_the_control_plane_refuses_for_good_is_told_once_and_runs_on() {
    let host = Host::new();
    let one = archive(&[("a.py", "1")]);
    host.push(&one).unwrap();
    let report = host.code.to_report().remove(0);
    // An archive that is as it was signed is not at fault.
    host.code.doubt(&report, NOW);
    assert!(report.archive.exists());
    host.code.rejected(&report, "409", NOW);
    assert_eq!((host.code.to_report().len(), host.alarms(AlarmKind::Refused).len()), (0, 1));
    assert_eq!(host.runs("a.py"), "1");
    std::fs::write(&report.archive, "x").unwrap();
    host.code.doubt(&report, NOW);
    assert!(!report.archive.exists() && host.alarms(AlarmKind::Damaged).len() == 1);
    assert_eq!((host.runs("a.py"), host.code.wanted(NOW).len()), ("1".into(), 1));
}
