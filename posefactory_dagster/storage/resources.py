"""The S3 client for Cloudflare R2."""

from typing import Any

import boto3
from botocore.config import Config
from dagster_aws.s3 import S3Resource

#: Seconds. A stalled connection must not hold a run for ever; R2 answers in well under one.
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60


class R2Resource(S3Resource):
    """dagster-aws's S3 resource with the botocore settings that R2 wants.

    It adds what ``S3Resource`` cannot express: region `auto`, signature v4, checksums only where an
    operation requires them (boto3 sends CRCs by default since 1.36, which R2 does not take everywhere),
    time limits, retries with jitter, and room for parallel transfers.
    """

    max_connections: int = 32

    def get_client(self) -> Any:
        """A boto3 S3 client; safe to share between threads."""
        return boto3.session.Session(profile_name=self.profile_name).client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region_name or "auto",
            aws_access_key_id=self.aws_access_key_id,
            aws_secret_access_key=self.aws_secret_access_key,
            aws_session_token=self.aws_session_token,
            verify=self.verify,
            use_ssl=self.use_ssl,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                retries={"mode": "standard", "total_max_attempts": self.max_attempts},
                max_pool_connections=self.max_connections,
            ),
        )
