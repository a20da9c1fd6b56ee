"""Shared by all tests. unit/ opens no socket; contract/ runs real toolkits; functional/ runs the local AWS; notebooks/ reads notebooks."""

import os

os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
os.environ.setdefault("SMDEBUG_LOG_LEVEL", "warning")
os.environ.setdefault("OMP_NUM_THREADS", "1")
