"""Data capture of an endpoint: requests and answers as JSON lines in S3, in AWS's format and under AWS's keys.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture.html
"""

import base64
import json
import logging
import random
import threading
import uuid

from opml.localaws import state

FLUSH_SECONDS = 1.0  # AWS collects for some minutes before it writes a file
MODES = {"Input": "endpointInput", "Output": "endpointOutput"}

_log = logging.getLogger(__name__)


def _record(mode: str, content_type: str, body: bytes, config: dict) -> dict:
    """One side of a request: text as it is if its type is declared so, else base64."""
    declared = config.get("CaptureContentTypeHeader") or {}
    kind = content_type.split(";")[0].strip()
    encoding = "BASE64"
    if kind in declared.get("CsvContentTypes", ("text/csv",)):
        encoding = "CSV"
    elif kind in declared.get("JsonContentTypes", ("application/json",)):
        encoding = "JSON"
    data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode("utf-8", "replace")
    return {"observedContentType": content_type, "mode": mode.upper(), "data": data, "encoding": encoding}


def summary(config: dict) -> dict | None:
    """What DescribeEndpoint shows of a DataCaptureConfig."""
    if not config:
        return None
    enabled = bool(config.get("EnableCapture"))
    shown = {"EnableCapture": enabled, "CaptureStatus": "Started" if enabled else "Stopped"}
    kept = {"DestinationS3Uri": config.get("DestinationS3Uri"), "KmsKeyId": config.get("KmsKeyId") or ""}
    return {**shown, "CurrentSamplingPercentage": config.get("InitialSamplingPercentage", 0), **kept}


class Capture:
    """Collects what one endpoint sees and writes it every `FLUSH_SECONDS`, one file for each variant."""

    def __init__(self, endpoint: str, config: dict):
        self._endpoint, self._config = endpoint, config
        self._lock = threading.Lock()
        self._lines: dict[str, list[str]] = {}
        self._timer: threading.Timer | None = None

    def add(self, variant: str, request: tuple[str, bytes], answer: tuple[str, bytes], attributes: str | None = None) -> None:
        """Keep one request and its answer, each as (content type, body), if the sample wants it."""
        if not self._config.get("EnableCapture") or random.random() * 100 >= self._config.get("InitialSamplingPercentage", 0):
            return
        wanted = {option["CaptureMode"] for option in self._config.get("CaptureOptions") or []}
        both = {"Input": request, "Output": answer}
        data = {
            MODES[mode]: _record(mode, *side, self._config) for mode, side in both.items() if wanted & {mode, "InputAndOutput"}
        }  # fmt: skip
        meta = {"eventId": str(uuid.uuid4()), "inferenceTime": state.now().strftime("%Y-%m-%dT%H:%M:%SZ")}
        if attributes:
            meta["customAttributes"] = [attributes]
        line = json.dumps({"captureData": data, "eventMetadata": meta, "eventVersion": "0"})
        with self._lock:
            self._lines.setdefault(variant, []).append(line)
            if self._timer is None:
                self._timer = threading.Timer(FLUSH_SECONDS, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what there is: ``<uri>/<endpoint>/<variant>/yyyy/mm/dd/hh/mm-ss-mmm-<uuid>.jsonl``."""
        with self._lock:
            lines, self._lines, self._timer = self._lines, {}, None
        for variant, found in lines.items():
            now = state.now()
            name = f"{now:%Y/%m/%d/%H/%M-%S}-{now.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
            uri = f"{self._config['DestinationS3Uri'].rstrip('/')}/{self._endpoint}/{variant}/{name}"
            try:
                state.put_object(uri, "".join(f"{line}\n" for line in found).encode())
            except state.NoSuchObject as error:
                _log.error("data capture of endpoint %s is lost: %s does not exist", self._endpoint, error)
