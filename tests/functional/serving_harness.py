"""Stand-in for the local AWS's server until lifecycle.start is merged: moto in a thread, with the serving half installed."""

import threading
from pathlib import Path

import boto3
from botocore.config import Config


class ServingAws:
    def __init__(self, folder: Path):
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from moto.sagemaker import urls
        from moto.sagemaker.responses import SageMakerResponse
        from werkzeug.serving import WSGIRequestHandler, make_server

        from opml.localaws import hosting_api, lambda_api, runtime_api
        from opml.localaws.settings import settings

        class SageMaker(hosting_api.HostingMixin, SageMakerResponse):
            pass

        for path in urls.url_paths:
            urls.url_paths[path] = SageMaker.dispatch
        hosting_api.install(), runtime_api.install(), lambda_api.install()

        class Quiet(WSGIRequestHandler):
            def log_request(self, *a, **k):
                pass

        self.server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True, request_handler=Quiet)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        settings.root, settings.endpoint_url = folder, f"http://127.0.0.1:{self.server.server_port}"
        self.folder, self.bucket, self.endpoint_url = folder, "opml-test", settings.endpoint_url
        self.client("s3").create_bucket(Bucket=self.bucket)
        self.role_arn = self.client("iam").create_role(RoleName="exec", AssumeRolePolicyDocument="{}")["Role"]["Arn"]

    def client(self, name, **config):
        return boto3.client(
            name, endpoint_url=self.endpoint_url, region_name="us-east-1", aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="x",
            config=Config(retries={"total_max_attempts": 1}, **config),
        )  # fmt: skip

    def stop(self):
        from opml.localaws import procs

        self.server.shutdown()
        procs.end_all()
