"""Airflow 3: every night, rerank the previous day's partition on a Ray cluster and pass the output's path on.

Put this file into the DAGs folder. The Airflow workers need `ray[default]` of the cluster's version, and RAY_ADDRESS:
the address of the cluster's dashboard (http://HEAD:8265). Retrying or clearing the task is safe: the job resumes, and
does nothing for a day that is finished.
"""

import logging
import os
import shlex
import time
import uuid
from datetime import datetime, timedelta

from airflow.sdk import dag, task
from ray.job_submission import JobStatus, JobSubmissionClient

INPUT = "s3://BUCKET/candidates/dt={date}"
OUTPUT = "s3://BUCKET/reranked/dt={date}"
POLL_SECONDS = 30


@dag(schedule="0 1 * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1, tags=["rerank"])
def corpus_rerank() -> None:
    """Rerank the day before the DAG run, then publish."""

    @task(retries=3, retry_delay=timedelta(minutes=10), execution_timeout=timedelta(hours=20))
    def rerank(date: str) -> str:
        """Submit the job, wait for it and return the output's path. Raises RuntimeError if the job did not succeed."""
        client = JobSubmissionClient(os.environ["RAY_ADDRESS"])
        command = ["corpus-reranker", "rerank", "--config", "reasonrank-7b", f"--date={date}"]
        command += [f"--input.path={INPUT}", f"--output.path={OUTPUT}"]
        job = client.submit_job(entrypoint=shlex.join(command), submission_id=f"rerank-{date}-{uuid.uuid4().hex[:8]}")
        status = JobStatus.PENDING
        try:
            while not status.is_terminal():
                time.sleep(POLL_SECONDS)
                status = client.get_job_status(job)
        finally:  # the task was killed or timed out: also stop the job
            if not status.is_terminal():
                client.stop_job(job)
        if status != JobStatus.SUCCEEDED:
            raise RuntimeError(f"job {job} is {status}; the end of its log:\n{client.get_job_logs(job)[-4000:]}")
        return OUTPUT.format(date=date)

    @task
    def publish(output: str) -> None:
        """Replace this with the next step: an indexer, a training job."""
        logging.info("reranked: %s/part-*.parquet", output)

    # The day before the run, whichever of Airflow's cron timetables is set.
    publish(rerank(date="{{ macros.ds_add(data_interval_end | ds, -1) }}"))


corpus_rerank()
