"""An item as an account asks for it: the same in a JSON body, in a line of a manifest, and in the OpenAPI document."""

from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from shield.buckets import is_s3, parse_s3_prefix, parse_s3_url
from shield.errors import InvalidSubmission
from shield.jobs import NewItem

CLEAN = r"^[^\x00]*$"  # PostgreSQL keeps no NUL in a text
UPLOAD_ID = r"^upl_[0-9a-f]{27}$"
URL_LENGTH = 4096
# As far as a pattern can say it: what a bucket is called, and that no segment of a key is . or ..
S3_PLACE = r"^[sS]3://(?![^/]*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
S3_KEY = r"/(?!(.*/)?\.{1,2}(/|$))[^\x00-\x1f\x7f]"
LINE_BYTES = 64 * 1024  # longest line of a manifest
ONE_SOURCE = "give an item either a url or an upload"

_http_url = TypeAdapter(AnyHttpUrl)


def _check_url(value: str) -> str:
    """The URL as it was given. Raises PydanticCustomError where it names no image that could be fetched."""
    try:
        if is_s3(value):
            parse_s3_url(value)
        else:
            _http_url.validate_python(value)
    except InvalidSubmission as error:
        raise PydanticCustomError("not_s3_url", "{why}", {"why": str(error)}) from error
    except ValidationError as error:
        raise PydanticCustomError("not_http_url", "not an http, https or s3 URL with a host") from error
    return value


def _check_prefix(value: str) -> str:
    """The prefix as it was given. Raises PydanticCustomError."""
    try:
        parse_s3_prefix(value)
    except InvalidSubmission as error:
        raise PydanticCustomError("not_s3_prefix", "{why}", {"why": str(error)}) from error
    return value


Url = Annotated[
    str,
    StringConstraints(max_length=URL_LENGTH, pattern=CLEAN),
    AfterValidator(_check_url),
    WithJsonSchema(
        {
            "type": "string",
            "anyOf": [
                {"format": "uri", "pattern": "^[hH][tT][tT][pP][sS]?://[A-Za-z0-9]"},
                {"pattern": f"{S3_PLACE}{S3_KEY}+$"},
            ],
            "maxLength": URL_LENGTH,
        }
    ),
]
S3Prefix = Annotated[
    str,
    StringConstraints(max_length=URL_LENGTH, pattern=CLEAN),
    AfterValidator(_check_prefix),
    WithJsonSchema({"type": "string", "pattern": f"{S3_PLACE}({S3_KEY}*)?$", "maxLength": URL_LENGTH}),
]
UploadId = Annotated[str, StringConstraints(pattern=UPLOAD_ID)]
CustomId = Annotated[str, StringConstraints(max_length=1024, pattern=CLEAN)]


def either(one: str, kind: str, other: str) -> JsonDict:
    """How JSON Schema says that one of two properties is given, of this type, and the other is not, or is null."""
    given: JsonDict = {one: {"type": kind}, other: {"type": "null"}}
    return {"required": [one], "properties": given}


class ItemSource(BaseModel):
    """An image: its URL or the id of its upload, one of the two, and what you call it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [either("url", "string", "upload"), either("upload", "string", "url")]},
    )

    url: Url | None = Field(
        None,
        examples=["https://example.org/photo.jpg"],
        description="http or https, or s3://bucket/key where this account has a grant.",
    )
    upload: UploadId | None = Field(None, description="The id that POST /v1/uploads gave.")
    custom_id: CustomId | None = Field(None, description="Echoed in the result. Absent: null.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.upload is None):
            raise PydanticCustomError("one_source", ONE_SOURCE)
        return self

    def new_item(self) -> NewItem:
        """As a job takes it. Grants and the upload's account are still to be checked."""
        return NewItem(url=self.url, upload=self.upload, custom_id=self.custom_id)
