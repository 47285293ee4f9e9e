"""The S3 clients for Cloudflare R2."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from dagster_aws.s3 import S3Resource
from obstore.store import S3Store

if TYPE_CHECKING:
    from obstore.store import S3Credential

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


def quick_client(resource: R2Resource, bucket: str) -> S3Store:
    """An obstore client of one bucket, with the keys of ``resource``, for many small objects.

    It tries once; who uses it goes on with boto3 where it fails. It heeds the usual proxy variables.
    """

    def keys() -> "S3Credential":
        """These and no others: without a provider, obstore also reads AWS_SESSION_TOKEN."""
        return {
            "access_key_id": resource.aws_access_key_id or "",
            "secret_access_key": resource.aws_secret_access_key or "",
            "expires_at": None,
        }

    return S3Store(
        bucket,
        endpoint=resource.endpoint_url,
        region=resource.region_name or "auto",
        credential_provider=keys,
        virtual_hosted_style_request=False,
        client_options={
            "allow_http": (resource.endpoint_url or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=READ_TIMEOUT_S),
            "timeout": timedelta(hours=1),  # of a whole file; a stalled one meets the limit above
        },
        retry_config={"max_retries": 0},
    )
