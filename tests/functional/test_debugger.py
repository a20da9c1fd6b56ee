"""Debugger and profiler in the local AWS: what a job saves reaches S3 while it runs; rules are evaluated on it."""

from debugged import LOSS, NEW, OLD, PLAIN, debugged, keys, rule, statuses


def test_a_script_that_knows_nothing_of_smdebug_is_hooked_in_the_images_that_did_so(jobs, aws):
    job = jobs.run(PLAIN, **debugged(jobs, collections=[("losses", {"save_interval": "2"}), ("gradients", {"save_interval": "5"})]))
    assert job["TrainingJobStatus"] == "Completed"
    assert "training_job_end.ts" in keys(jobs, f"debug/{job['TrainingJobName']}/debug-output/")
    from smdebug.trials import create_trial

    trial = create_trial(f"s3://{jobs.bucket}/debug/{job['TrainingJobName']}/debug-output")
    assert trial.tensor(LOSS).steps() == [0, 2, 4, 6, 8, 10]
    assert "gradient/Sequential_0.weight" in trial.tensor_names()
