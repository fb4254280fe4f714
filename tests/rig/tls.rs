//! Certificates that are valid for the duration of a test, made by openssl.

use std::path::Path;
use std::process::{Command, Stdio};

use super::component;

fn openssl(directory: &Path, arguments: &str) -> Option<()> {
    let mut command = Command::new(component("openssl")?);
    let made = command.current_dir(directory).args(arguments.split(' ')).stderr(Stdio::null()).status();
    assert!(made.unwrap().success(), "openssl {arguments}");
    Some(())
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// Makes a self-signed certificate for `name` (`DNS:…` or `IP:…`) in `directory`, under two file names.
pub fn certificate(directory: &Path, name: &str, key: &str, certificate: &str) -> Option<()> {
    let names = format!("-addext subjectAltName={name} -addext basicConstraints=critical,CA:FALSE");
    openssl(
        directory,
        &format!("req -x509 -days 2 {KEY} -subj /CN=halligan {names} -keyout {key} -out {certificate}"),
    )
}

/// Makes a certificate authority, `ca.pem`, and a certificate for 127.0.0.1 that it signed: `tls.pem`, `tls.key`.
pub fn authority(directory: &Path) -> Option<()> {
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(directory, &format!("req -x509 -days 2 {KEY} -keyout ca.key -out ca.pem -subj /CN=authority"))?;
    openssl(directory, &format!("req {KEY} -keyout tls.key -out tls.csr -subj /CN=server"))?;
    openssl(
        directory,
        "x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out tls.pem",
    )
}
