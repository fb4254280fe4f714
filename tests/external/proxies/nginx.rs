//! Debian's nginx with `auth_request`.

use super::contract::{OwnAnswers, Setting};
use super::edges::Front;
use crate::rig::proxy::nginx_example;
use crate::rig::{component, free_port, nginx};

#[test]
fn nginx_asks_about_every_request() {
    if component("nginx").is_none() {
        return;
    }
    let mut setting = Setting::new();
    let port = free_port();
    let server = nginx_example(&setting.rig, port, setting.upstream.port);
    let _nginx = nginx::start(&setting.rig, "nginx", "", &server).unwrap();
    setting.holds(Front::Nginx, port, OwnAnswers { undecided: (500, false), down: 500 });
}
