//! Airflow as `.ci/setup` installs it from tests/external/airflow/requirements.txt, or the one that HALLIGAN_AIRFLOW
//! names.

use std::path::PathBuf;

use super::component;

/// Returns the virtual environment of Airflow.
pub fn venv() -> Option<PathBuf> {
    let named = std::env::var_os("HALLIGAN_AIRFLOW").map(PathBuf::from);
    let directory = named.unwrap_or_else(|| "/opt/halligan-ci/airflow".into());
    component(directory.join("bin/airflow").to_str()?)?;
    Some(directory)
}

/// Returns the OpenAPI document that Airflow contains.
pub fn document() -> Option<PathBuf> {
    let libraries = venv()?.join("lib");
    let python = std::fs::read_dir(libraries).unwrap().map(|entry| entry.unwrap().path());
    let documents = python.map(|version| {
        version.join("site-packages/airflow/api_fastapi/core_api/openapi/v2-rest-api-generated.yaml")
    });
    Some(documents.into_iter().find(|document| document.is_file()).unwrap())
}
