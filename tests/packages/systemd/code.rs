//! The packaged daemon in the sandbox of its unit stores code and variables, which other services read.

use super::{DAEMON, Host, URL};

/// Environment variable of the CLI that names the control plane's certificate.
const CA: &str = "HALLIGAN_CA_FILE=/etc/credstore/halligan.ca";

/// Directory of the dags_folder of docs/deploys.md, for an Airflow that runs as a user of its own.
const SHARED: &str = "/srv/halligan-code";

impl Host {
    /// Deploys a folder with one Dag. `arguments` name the token and the destination.
    fn deploy(&self, content: &str, arguments: &str) {
        self.container.write("/root/dags/dag.py", content);
        let id = &self.deployment;
        self.container.sh(&format!("{CA} halligan deploy --deployment-id {id} {arguments} /root/dags"));
    }

    /// Waits until the deployment runs this Dag below the directory of its code.
    fn runs(&self, directory: &str, content: &str) {
        let current = format!("{directory}/{}/current", self.deployment);
        self.container.until(
            &format!("{current} is {content}"),
            &format!("[ -L {current} ] && [ \"$(cat {current}/dag.py)\" = {content} ]"),
        );
    }

    pub(super) fn it_takes_code_of_the_control_plane_in_its_sandbox(&self) {
        let control_plane = format!("--url {URL} --api-token-file /root/owner");
        // The default directory is in the unit's StateDirectory=.
        self.deploy("1", &control_plane);
        self.runs("/var/lib/halligan/code", "1");
        self.deploy("2", &control_plane);
        self.runs("/var/lib/halligan/code", "2");
        let kept = self.container.sh(&format!("ls -d /var/lib/halligan/code/{}/*/ | wc -l", self.deployment));
        assert_eq!(kept, "3", "two folders, and the link to one of them");
        // A directory that the unit may not write to raises an error; the daemon keeps running.
        self.container.sh(&format!("install -d -o halligan -g halligan -m 0711 {SHARED}"));
        self.container
            .sh(&format!("printf '[code]\ndirectory = \"{SHARED}\"\n' >> /etc/halligan/halligand.toml"));
        self.container.sh("systemctl restart halligand");
        self.container.until("the alarm names it", &format!("halligan status | grep -q {SHARED}"));
        assert_eq!(self.ask(), "200");
        // With the drop-in of docs/deploys.md the unit may write there, and an unrelated user can read the code.
        self.container.write(
            "/etc/systemd/system/halligand.service.d/code.conf",
            format!("[Service]\nReadWritePaths={SHARED}\n"),
        );
        self.container.sh("systemctl daemon-reload && systemctl restart halligand");
        self.runs(SHARED, "2");
        let dag = format!("{SHARED}/{}/current/dag.py", self.deployment);
        assert_eq!(self.container.sh(&format!("runuser -u nobody -- cat {dag}")), "2");
        let changed = self.container.try_sh(&format!("runuser -u nobody -- tee {dag} < /etc/hostname"));
        assert!(!changed.status.success(), "Airflow's user can change the code");
    }

    pub(super) fn it_writes_variables_that_a_unit_is_started_with(&self) {
        self.container.sh(&format!(
            "printf s3cret | {CA} halligan --url {URL} --api-token-file /root/owner \
             deployment variable create -d {} --key DB_PASSWORD --secret --value-file -",
            self.deployment
        ));
        let file = format!("/var/lib/halligan/environment/{}.env", self.deployment);
        self.container.until("the variables arrive", &format!("[ -e {file} ]"));
        assert_eq!(self.container.sh(&format!("stat -c '%a %U' {file}")), "600 halligan");
        self.container.write(
            "/etc/systemd/system/airflow.service",
            format!(
                "[Service]\nType=oneshot\nDynamicUser=yes\nEnvironmentFile={file}\n\
                 ExecStart=/bin/sh -c 'test \"$DB_PASSWORD\" = s3cret'\n"
            ),
        );
        self.container.sh("systemctl daemon-reload && systemctl start airflow");
    }

    /// Pushes code in an outage, with a direct-access token, to the address of halligand.socket.
    pub(super) fn it_takes_code_of_a_client_in_an_outage(&self) {
        self.container.write("/root/direct", &self.token);
        self.deploy("3", &format!("--host {DAEMON} --api-token-file /root/direct"));
        self.runs(SHARED, "3");
        self.container.sh("systemctl restart halligand");
        self.runs(SHARED, "3");
    }
}
