"""The schemas of customers. They are the same for all accounts: what an account adds is in `metadata`."""

from typing import Final

from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTimeType,
    IntType,
    MapType,
    ObjectType,
    Property,
    Schema,
    StringType,
)

MAX_EMAIL_CHARACTERS: Final = 512
MAX_NAME_CHARACTERS: Final = 256
MAX_PART_CHARACTERS: Final = 150
MAX_PHONE_CHARACTERS: Final = 20
MAX_DESCRIPTION_CHARACTERS: Final = 5_000
MAX_METADATA: Final = 50
MAX_METADATA_KEY_CHARACTERS: Final = 40
MAX_METADATA_VALUE_CHARACTERS: Final = 500

_TEXT: Final = StringType()
_PART: Final = StringType(max_length=MAX_PART_CHARACTERS)
ADDRESS_NAMES: Final = {
    "line1": "Address, line 1",
    "line2": "Address, line 2",
    "city": "City",
    "state": "State",
    "postal_code": "Postal code",
    "country": "Country (ISO 3166-1 alpha-2)",
}
_ADDRESS: Final = ObjectType(
    tuple(Property(name, _TEXT, nullable=True, description=text) for name, text in ADDRESS_NAMES.items())
)

READABLE_SCHEMA: Final[Schema] = ObjectType(
    (
        Property("id", _TEXT, description="Customer ID"),
        Property("email", _TEXT, nullable=True, description="Email"),
        Property("name", _TEXT, nullable=True, description="Name"),
        Property("business_name", _TEXT, nullable=True, description="Business name"),
        Property("individual_name", _TEXT, nullable=True, description="Individual name"),
        Property("phone", _TEXT, nullable=True, description="Phone number"),
        Property("description", _TEXT, nullable=True, description="Description"),
        Property("address", _ADDRESS, nullable=True, description="Address"),
        Property("preferred_locales", ArrayType(_TEXT), nullable=True, description="Preferred locales"),
        Property("tax_exempt", _TEXT, nullable=True, description="Tax exemption"),
        Property("metadata", MapType(_TEXT), description="Metadata"),
        Property("created", DateTimeType(), description="Created"),
        Property("currency", _TEXT, nullable=True, description="Currency"),
        Property("balance", IntType(64), nullable=True, description="Balance, in the smallest unit of the currency"),
        Property("delinquent", BooleanType(), nullable=True, description="Whether an invoice is overdue"),
        Property("livemode", BooleanType(), nullable=True, description="Whether it is in live mode"),
    )
)
WRITABLE_SCHEMA: Final[Schema] = ObjectType(
    (
        Property("email", StringType(max_length=MAX_EMAIL_CHARACTERS), nullable=True, description="Email"),
        Property("name", StringType(max_length=MAX_NAME_CHARACTERS), nullable=True, description="Name"),
        Property("business_name", _PART, nullable=True, description="Business name"),
        Property("individual_name", _PART, nullable=True, description="Individual name"),
        Property("phone", StringType(max_length=MAX_PHONE_CHARACTERS), nullable=True, description="Phone number"),
        Property(
            "description", StringType(max_length=MAX_DESCRIPTION_CHARACTERS), nullable=True, description="Description"
        ),
        Property("address", _ADDRESS, nullable=True, description="Address"),
        Property("preferred_locales", ArrayType(_TEXT), nullable=True, description="Preferred locales"),
        Property("tax_exempt", StringType(values=("none", "exempt", "reverse")), description="Tax exemption"),
        Property("metadata", MapType(_TEXT), description="Metadata"),
    )
)
