//! Settings of a deployment that describe its Airflow. The control plane keeps and shows them, so that a deployment can be
//! managed as code; it does not act on them.

use serde::{Deserialize, Serialize};

/// Executor of Airflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Executor {
    /// Celery.
    #[default]
    Celery,
    /// Kubernetes.
    Kubernetes,
    /// The platform's own.
    Astro,
}

/// Choices for the settings of deployments. The platform's command line reads them before it changes a deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DeploymentOptions {
    /// Executors.
    pub executors: Vec<Executor>,
    /// Releases of the platform's runtime; empty, since any version can be named.
    #[cfg_attr(feature = "control", schema(value_type = Vec<Object>))]
    pub runtime_releases: Vec<serde_json::Value>,
    /// Machines for schedulers; empty, since this control plane runs none.
    #[cfg_attr(feature = "control", schema(value_type = Vec<Object>))]
    pub scheduler_machines: Vec<serde_json::Value>,
    /// Machines for workers; empty, since this control plane runs none.
    #[cfg_attr(feature = "control", schema(value_type = Vec<Object>))]
    pub worker_machines: Vec<serde_json::Value>,
}

impl Default for DeploymentOptions {
    fn default() -> Self {
        Self {
            executors: vec![Executor::Celery, Executor::Kubernetes, Executor::Astro],
            runtime_releases: Vec::new(),
            scheduler_machines: Vec::new(),
            worker_machines: Vec::new(),
        }
    }
}

/// Settings of a deployment. A text that was not set is empty, since the platform's clients read no null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "the members are those of the platform")]
pub struct Settings {
    /// Executor of Airflow; `CELERY` unless it was set.
    pub executor: Executor,
    /// Version of the platform's runtime.
    pub runtime_version: String,
    /// Version of Airflow.
    pub airflow_version: String,
    /// Processors of the web server, such as `500m` or `2`.
    pub web_server_cpu: String,
    /// Memory of the web server, such as `512Mi` or `2Gi`.
    pub web_server_memory: String,
    /// Size of the scheduler; `SMALL` unless it was set.
    pub scheduler_size: String,
    /// Processors of the scheduler.
    pub scheduler_cpu: String,
    /// Memory of the scheduler.
    pub scheduler_memory: String,
    /// Number of schedulers, 1 to 100.
    pub scheduler_replicas: u32,
    /// Processors of a task's pod.
    pub default_task_pod_cpu: String,
    /// Memory of a task's pod.
    pub default_task_pod_memory: String,
    /// Limit of processors.
    pub resource_quota_cpu: String,
    /// Limit of memory.
    pub resource_quota_memory: String,
    /// Repository of its image.
    pub image_repository: String,
    /// Tag of its image.
    pub image_tag: String,
    /// True if code comes from pipelines only.
    pub is_cicd_enforced: bool,
    /// True if Dags can be deployed without an image. It is unless it was set.
    pub is_dag_deploy_enabled: bool,
    /// True if its components run twice.
    pub is_high_availability: bool,
    /// True if it is for development.
    pub is_development_mode: bool,
    /// Email addresses of those to write to about it, at most 20.
    pub contact_emails: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            executor: Executor::Celery,
            runtime_version: String::new(),
            airflow_version: String::new(),
            web_server_cpu: String::new(),
            web_server_memory: String::new(),
            scheduler_size: "SMALL".into(),
            scheduler_cpu: String::new(),
            scheduler_memory: String::new(),
            scheduler_replicas: 1,
            default_task_pod_cpu: String::new(),
            default_task_pod_memory: String::new(),
            resource_quota_cpu: String::new(),
            resource_quota_memory: String::new(),
            image_repository: String::new(),
            image_tag: String::new(),
            is_cicd_enforced: false,
            is_dag_deploy_enabled: true,
            is_high_availability: false,
            is_development_mode: false,
            contact_emails: Vec::new(),
        }
    }
}

impl Settings {
    /// Returns the first member whose value is none that the platform's clients could show, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let quantities = [
            ("webServerCpu", &self.web_server_cpu),
            ("webServerMemory", &self.web_server_memory),
            ("schedulerCpu", &self.scheduler_cpu),
            ("schedulerMemory", &self.scheduler_memory),
            ("defaultTaskPodCpu", &self.default_task_pod_cpu),
            ("defaultTaskPodMemory", &self.default_task_pod_memory),
            ("resourceQuotaCpu", &self.resource_quota_cpu),
            ("resourceQuotaMemory", &self.resource_quota_memory),
        ];
        for (member, text) in quantities {
            if !is_quantity(text) {
                return Err((
                    member,
                    "use a Kubernetes quantity such as 500m, 2, 512Mi or 2Gi, or an empty text",
                ));
            }
        }
        let words = [
            ("runtimeVersion", &self.runtime_version),
            ("airflowVersion", &self.airflow_version),
            ("schedulerSize", &self.scheduler_size),
            ("imageRepository", &self.image_repository),
            ("imageTag", &self.image_tag),
        ];
        for (member, text) in words {
            if text.len() > 255 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err((member, "use at most 255 visible ASCII characters without spaces"));
            }
        }
        if self.scheduler_size.is_empty() {
            return Err(("schedulerSize", "name a size, such as SMALL"));
        }
        if !(1..=100).contains(&self.scheduler_replicas) {
            return Err(("schedulerReplicas", "use 1 to 100"));
        }
        let address = |text: &String| {
            let visible = text.len() <= 254 && text.bytes().all(|byte| byte.is_ascii_graphic());
            visible && text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
        };
        if self.contact_emails.len() > 20 || !self.contact_emails.iter().all(address) {
            return Err(("contactEmails", "use at most 20 email addresses"));
        }
        Ok(())
    }
}

/// Returns true if `text` is empty or a quantity as Kubernetes writes it: digits, perhaps a fraction, perhaps a suffix.
fn is_quantity(text: &str) -> bool {
    let number = ["m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"]
        .iter()
        .rev()
        .find_map(|suffix| text.strip_suffix(suffix))
        .unwrap_or(text);
    let digits =
        |part: &str| (1..=12).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    text.is_empty()
        || match number.split_once('.') {
            Some((whole, fraction)) => digits(whole) && digits(fraction),
            None => digits(number),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_one_of_kubernetes() {
        for good in ["", "0", "2", "0.5", "500m", "512Mi", "2Gi", "1k"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["m", "Gi", "-1", "1.", ".5", "1,5", "1 Gi", "1Pb", "lots", "1e9", "9999999999999"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }
}
