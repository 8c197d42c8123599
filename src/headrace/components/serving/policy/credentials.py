"""Which environment a model is fetched with: the secrets of the service account as upstream reads them
(kserve pkg/credentials), and the namespace's own object-store keys when there are none.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from headrace.api.core import EnvVar, EnvVarSource, KeySelector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.core import Secret

PREFIX = "serving.kserve.io/s3-"
SECRET_NAME = "serving.kserve.io/storageSecretName"  # noqa: S105 (an annotation's name)
ACCESS_KEY, SECRET_KEY = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
OWN_SECRET = "mlpipeline-minio-artifact"  # noqa: S105 (a Secret's name)
OWN_ENDPOINT = "minio-service.kubeflow:9000"
OWN_REGION = "us-east-1"

_PLAIN = (
    # annotation, key in the secret, variable
    ("verifyssl", "S3_VERIFY_SSL", "S3_VERIFY_SSL"),
    ("useanoncredential", "awsAnonymousCredential", "awsAnonymousCredential"),
    ("region", "AWS_DEFAULT_REGION", "AWS_DEFAULT_REGION"),
    ("usevirtualbucket", "S3_USER_VIRTUAL_BUCKET", "S3_USER_VIRTUAL_BUCKET"),
    ("useaccelerate", "S3_USE_ACCELERATE", "S3_USE_ACCELERATE"),
    ("cabundle", "AWS_CA_BUNDLE", "AWS_CA_BUNDLE"),
    ("cabundle-configmap", "AWS_CA_BUNDLE_CONFIGMAP", "AWS_CA_BUNDLE_CONFIGMAP"),
)


def environment(secrets: Iterable[Secret]) -> list[EnvVar]:
    """Variables for the storage initializer from the first secret that has S3 keys, or the namespace's own."""
    for secret in secrets:
        if SECRET_KEY in secret.data:
            return _keys(secret.metadata.name, ACCESS_KEY, SECRET_KEY) + _endpoint(secret) + _options(secret)
    return [
        *_keys(OWN_SECRET, "accesskey", "secretkey", optional=True),
        EnvVar(name="S3_USE_HTTPS", value="0"),
        EnvVar(name="S3_ENDPOINT", value=OWN_ENDPOINT),
        EnvVar(name="AWS_ENDPOINT_URL", value=f"http://{OWN_ENDPOINT}"),
        EnvVar(name="AWS_DEFAULT_REGION", value=OWN_REGION),
    ]


def _keys(secret: str, access: str, private: str, *, optional: bool | None = None) -> list[EnvVar]:
    return [
        EnvVar(
            name=name,
            value_from=EnvVarSource(secret_key_ref=KeySelector(key=key, name=secret, optional=optional)),
        )
        for name, key in ((ACCESS_KEY, access), (SECRET_KEY, private))
    ]


def _endpoint(secret: Secret) -> list[EnvVar]:
    given = _value(secret, "endpoint", "S3_ENDPOINT").strip()
    if not given:
        region = _value(secret, "region", "AWS_DEFAULT_REGION") or OWN_REGION
        given = f"https://s3.{region}.amazonaws.com"
    lowered = given.lower()
    if lowered.startswith("https://"):
        secure, host = "1", given[8:]
    elif lowered.startswith("http://"):
        secure, host = "0", given[7:]
    else:
        secure, host = _value(secret, "usehttps", "S3_USE_HTTPS"), given
    url = f"{'http' if secure == '0' else 'https'}://{host}"
    https = [EnvVar(name="S3_USE_HTTPS", value=secure)] if secure else []
    return [*https, EnvVar(name="S3_ENDPOINT", value=host), EnvVar(name="AWS_ENDPOINT_URL", value=url)]


def _options(secret: Secret) -> list[EnvVar]:
    found = ((variable, _value(secret, annotation, key)) for annotation, key, variable in _PLAIN)
    return [EnvVar(name=variable, value=value) for variable, value in found if value]


def _value(secret: Secret, annotation: str, key: str) -> str:
    """An annotation wins over a key of the secret, as upstream."""
    given = secret.metadata.annotations.get(PREFIX + annotation)
    if given is not None:
        return given
    try:
        return base64.b64decode(secret.data.get(key, ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
