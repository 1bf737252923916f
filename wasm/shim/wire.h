/* The numbers of cloche_wire/tags.py and abi.py that the codec needs. tests/wire/test_numbers.py holds them equal. */
#ifndef CLOCHE_WIRE_H
#define CLOCHE_WIRE_H

enum {
    WIRE_OUT_OF_LINE = 4096,
    WIRE_RING_MAGIC = 0x676F6C63,
    WIRE_RING_CAPACITY = 256 * 1024,

    TAG_POS_BIGNUM = 2,
    TAG_NEG_BIGNUM = 3,
    TAG_UUID = 37,
    TAG_ROW_MAJOR = 40,
    TAG_TYPED_FIRST = 64,
    TAG_TYPED_LAST = 87,
    TAG_SET = 258,
    TAG_COLUMN_MAJOR = 1040,
    TAG_COMPLEX = 43000,
    TAG_TUPLE = 49600,
    TAG_FROZENSET = 49601,
    TAG_MAP = 49602,
    TAG_SURROGATES = 49603,
    TAG_BYTES_AT = 49604,
    TAG_TEXT_AT = 49605,
    TAG_NDARRAY = 49606,
    TAG_SCALAR = 49607,
    TAG_DATETIME = 49608,
    TAG_DATE = 49609,
    TAG_TIME = 49610,
    TAG_TIMEDELTA = 49611,
    TAG_DECIMAL = 49612,
    TAG_FRACTION = 49613,
    TAG_RECORD = 49614,
    TAG_OPAQUE = 49615,
    TAG_READONLY = 49616,
    TAG_BODY_AT = 49617,
    TAG_SHARED_AT = 49618,
};

#endif
