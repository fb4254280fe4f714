"""Asks Airflow through its own Python client; prints one JSON object: the result, or the status and Halligan's reason."""

import json
import os
import sys

import airflow_client.client as airflow
from airflow_client.client.exceptions import ApiException


def ask(api, verb, *arguments):
    if verb == "list":
        return [dag.dag_id for dag in airflow.DAGApi(api).get_dags(order_by=["dag_id"]).dags]
    if verb == "dag":
        return airflow.DAGApi(api).get_dag(arguments[0]).to_dict()
    if verb == "trigger":
        body = airflow.TriggerDAGRunPostBody.from_dict({"logical_date": None})
        return airflow.DagRunApi(api).trigger_dag_run(arguments[0], body).to_dict()
    if verb == "runs":
        return [run.dag_run_id for run in airflow.DagRunApi(api).get_dag_runs(arguments[0]).dag_runs]
    connections = airflow.ConnectionApi(api)
    if verb == "connection":
        return connections.get_connection(arguments[0]).to_dict()
    body = {"connection_id": arguments[0], "conn_type": "http", "host": arguments[1]}
    body = airflow.ConnectionBody.from_dict(body)
    if verb == "add-connection":
        return connections.post_connection(body).to_dict()
    if verb == "edit-connection":
        return connections.patch_connection(arguments[0], body, update_mask=["host"]).to_dict()
    raise SystemExit(f"unknown verb {verb}")


configuration = airflow.Configuration(host=os.environ["AIRFLOW_URL"], access_token=os.environ["AIRFLOW_TOKEN"])
with airflow.ApiClient(configuration) as api:
    try:
        print(json.dumps({"result": ask(api, *sys.argv[1:])}, default=str))
    except ApiException as refused:
        print(json.dumps({"status": refused.status, "reason": refused.headers.get("X-Halligan-Reason")}))
