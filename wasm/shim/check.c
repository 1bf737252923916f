/* Validates one CBOR item against the profile of docs/reference/wire.md. See check.h for what this file must not contain.

   The state of the walk is one integer, so that it stays in a WebAssembly local: nodes left in the high half, position in the
   low half. Every function takes the bytes (n at p) and the state `s` before a part, and returns the state after the part, or
   BAD. BAD passes through all of them, so only code that looks at the bytes itself has to test for it. */
#include "check.h"
#include "cbor.h"
#include "wire/tags.h"

typedef uint64_t state;
typedef const uint8_t *bytes;

#define BAD UINT64_MAX
#define POSITION(s) ((uint32_t)(s))
#define MOVED(s, position) (((s) & 0xFFFFFFFF00000000u) | (uint32_t)(position))
#define ONE_NODE ((state)1 << 32)

static state item(bytes p, uint32_t n, state s, uint32_t depth);

static inline uint64_t argument(bytes p, uint32_t at, uint32_t end) { return cbor_argument(p + at, end - at); }

/* RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF. */
static inline int is_utf8(bytes p, uint32_t at, uint32_t end) {
    while (at < end) {
        uint32_t b = p[at++], more, low = 0x80, high = 0xBF;
        if (b < 0x80) continue;
        if (b < 0xC2 || b > 0xF4) return 0;
        more = b < 0xE0 ? 1 : b < 0xF0 ? 2 : 3;
        if (b == 0xE0) low = 0xA0;
        if (b == 0xED) high = 0x9F;
        if (b == 0xF0) low = 0x90;
        if (b == 0xF4) high = 0x8F;
        if (more > end - at) return 0;
        for (; more; more--, low = 0x80, high = 0xBF) {
            b = p[at++];
            if (b < low || b > high) return 0;
        }
    }
    return 1;
}

/* Moves past the head of one item, which takes one node. */
static inline state head(bytes p, uint32_t n, state s) {
    uint32_t at = POSITION(s), size = s < ONE_NODE || at >= n ? 0 : cbor_head_size(p + at, n - at);
    return size ? MOVED(s - ONE_NODE, at + size) : BAD;
}

static inline int has_major(bytes p, uint32_t n, state s, uint32_t major) {
    return s != BAD && POSITION(s) < n && cbor_major(p + POSITION(s)) == (int)major;
}

static inline int is_tag(bytes p, uint32_t n, state s, uint32_t tag) {
    if (!has_major(p, n, s, TAG)) return 0;
    uint32_t at = POSITION(s), size = cbor_head_size(p + at, n - at);
    return size && cbor_argument(p + at, size) == tag;
}

static inline state string(bytes p, uint32_t n, state s, uint32_t major) {
    if (!has_major(p, n, s, major)) return BAD;
    uint32_t at = POSITION(s);
    if ((s = head(p, n, s)) == BAD) return BAD;
    uint32_t start = POSITION(s);
    uint64_t length = argument(p, at, start);
    if (length > n - start) return BAD;
    if (major == TEXT && !is_utf8(p, start, start + (uint32_t)length)) return BAD;
    return MOVED(s, start + length);
}

static inline state integer(bytes p, uint32_t n, state s, int bignum) {
    if (has_major(p, n, s, UINT) || has_major(p, n, s, NEGATIVE)) return head(p, n, s);
    if (bignum && (is_tag(p, n, s, TAG_POS_BIGNUM) || is_tag(p, n, s, TAG_NEG_BIGNUM))) return string(p, n, head(p, n, s), BYTES);
    return BAD;
}

static inline state natural(bytes p, uint32_t n, state s) { return has_major(p, n, s, UINT) ? head(p, n, s) : BAD; }

static inline state text(bytes p, uint32_t n, state s) { return string(p, n, s, TEXT); }

static inline state text_or_null(bytes p, uint32_t n, state s) {
    return has_major(p, n, s, SIMPLE) ? (p[POSITION(s)] == CBOR_BYTE(SIMPLE, CBOR_NULL) ? head(p, n, s) : BAD) : text(p, n, s);
}

static inline state float64(bytes p, uint32_t n, state s) {
    return has_major(p, n, s, SIMPLE) && p[POSITION(s)] == CBOR_BYTE(SIMPLE, CBOR_FLOAT64) ? head(p, n, s) : BAD;
}

/* The head of an array of exactly `count` items. */
static inline state array(bytes p, uint32_t n, state s, uint32_t count) {
    if (!has_major(p, n, s, ARRAY)) return BAD;
    uint32_t at = POSITION(s);
    s = head(p, n, s);
    return s != BAD && argument(p, at, POSITION(s)) == count ? s : BAD;
}

/* [address, length] behind a tag */
static inline state place(bytes p, uint32_t n, state s) { return natural(p, n, natural(p, n, array(p, n, s, 2))); }

/* A byte string, or the tag with the place of one. */
static inline state body(bytes p, uint32_t n, state s, uint32_t tag) {
    return is_tag(p, n, s, tag) ? place(p, n, head(p, n, s)) : string(p, n, s, BYTES);
}

/* The body of a function for an array of any length: `part` moves past one item. */
#define EACH(part) \
    if (!has_major(p, n, s, ARRAY)) return BAD; \
    uint32_t at = POSITION(s); \
    if ((s = head(p, n, s)) == BAD) return BAD; \
    for (uint64_t left = argument(p, at, POSITION(s)); left && s != BAD; left--) s = part; \
    return s

static state dims(bytes p, uint32_t n, state s) { EACH(natural(p, n, s)); }
static state texts(bytes p, uint32_t n, state s) { EACH(text(p, n, s)); }
static state items(bytes p, uint32_t n, state s, uint32_t depth) {
    if (!depth) return BAD;
    EACH(item(p, n, s, depth - 1));
}

/* text, or [itemsize, [[name, offset, dtype, dims], ...]] */
static state dtype(bytes p, uint32_t n, state s, uint32_t depth);
static state field(bytes p, uint32_t n, state s, uint32_t depth) {
    s = natural(p, n, text(p, n, array(p, n, s, 4)));
    return dims(p, n, dtype(p, n, s, depth));
}
static state fields(bytes p, uint32_t n, state s, uint32_t depth) { EACH(field(p, n, s, depth)); }
static state dtype(bytes p, uint32_t n, state s, uint32_t depth) {
    if (!has_major(p, n, s, ARRAY)) return text(p, n, s);
    return depth ? fields(p, n, natural(p, n, array(p, n, s, 2)), depth - 1) : BAD;
}

static inline int is_typed(uint64_t tag) {
    /* without 68 (clamped), 76 (reserved), 83 and 87 (float128), which numpy does not have everywhere */
    return tag >= TAG_TYPED_FIRST && tag <= TAG_TYPED_LAST && tag != 68 && tag != 76 && tag != 83 && tag != 87;
}

/* The text "C" or "F" */
static inline state order(bytes p, uint32_t n, state s) {
    uint32_t at = POSITION(s);
    s = text(p, n, s);
    return s != BAD && p[at] == CBOR_BYTE(TEXT, 1) && (p[at + 1] == 'C' || p[at + 1] == 'F') ? s : BAD;
}

static state ndarray(bytes p, uint32_t n, state s, uint32_t depth) {
    s = dims(p, n, dtype(p, n, array(p, n, s, 4), depth));
    return body(p, n, order(p, n, s), TAG_BODY_AT);
}

/* What must follow the head of a tag. */
static state tagged(bytes p, uint32_t n, state s, uint64_t tag, uint32_t depth) {
    uint32_t at = POSITION(s);
    uint64_t inner;
    if (is_typed(tag)) return body(p, n, s, TAG_BODY_AT);
    switch (tag) {
    case TAG_POS_BIGNUM:
    case TAG_NEG_BIGNUM:
    case TAG_SURROGATES: return string(p, n, s, BYTES);
    case TAG_UUID: return at < n && p[at] == CBOR_BYTE(BYTES, 16) ? string(p, n, s, BYTES) : BAD;
    case TAG_SET:
    case TAG_FROZENSET:
    case TAG_TUPLE: return items(p, n, s, depth);
    case TAG_MAP:
        s = items(p, n, s, depth);
        return s != BAD && !(cbor_argument(p + at, cbor_head_size(p + at, n - at)) & 1) ? s : BAD;
    case TAG_BYTES_AT:
    case TAG_TEXT_AT: return place(p, n, s);
    case TAG_ROW_MAJOR:
    case TAG_COLUMN_MAJOR:
        s = dims(p, n, array(p, n, s, 2));
        if (!has_major(p, n, s, TAG)) return BAD;
        at = POSITION(s);
        if ((s = head(p, n, s)) == BAD || !is_typed(argument(p, at, POSITION(s)))) return BAD;
        return body(p, n, s, TAG_BODY_AT);
    case TAG_NDARRAY: return ndarray(p, n, s, depth);
    case TAG_NUMBERS: /* each number is charged as one node */
        s = natural(p, n, array(p, n, s, 2));
        at = POSITION(s);
        if (!depth || s == BAD || (s = string(p, n, s, BYTES)) == BAD) return BAD;
        inner = (POSITION(s) - at) / 8;
        return s / ONE_NODE >= inner ? s - inner * ONE_NODE : BAD;
    case TAG_READONLY:
        if (!has_major(p, n, s, TAG) || (s = head(p, n, s)) == BAD) return BAD;
        inner = argument(p, at, POSITION(s));
        if (!is_typed(inner) && inner != TAG_ROW_MAJOR && inner != TAG_COLUMN_MAJOR && inner != TAG_NDARRAY) return BAD;
        return tagged(p, n, s, inner, depth);
    case TAG_SCALAR: return string(p, n, dtype(p, n, array(p, n, s, 2), depth), BYTES);
    case TAG_COMPLEX: return float64(p, n, float64(p, n, array(p, n, s, 2)));
    case TAG_DATE:
    case TAG_DECIMAL: return text(p, n, s);
    case TAG_DATETIME:
    case TAG_TIME: return text_or_null(p, n, natural(p, n, text(p, n, array(p, n, s, 3))));
    case TAG_TIMEDELTA: s = integer(p, n, array(p, n, s, 3), 0); return natural(p, n, natural(p, n, s));
    case TAG_FRACTION: return integer(p, n, integer(p, n, array(p, n, s, 2), 1), 1);
    case TAG_RECORD: return items(p, n, texts(p, n, text(p, n, array(p, n, s, 3))), depth);
    case TAG_OPAQUE: return body(p, n, string(p, n, array(p, n, s, 2), BYTES), TAG_BYTES_AT);
    }
    return BAD;
}

static state item(bytes p, uint32_t n, state s, uint32_t depth) {
    uint32_t at = POSITION(s);
    if (at >= n) return BAD;
    switch (cbor_major(p + at)) {
    case UINT:
    case NEGATIVE: return head(p, n, s);
    case BYTES: return string(p, n, s, BYTES);
    case TEXT: return string(p, n, s, TEXT);
    case ARRAY: return items(p, n, s, depth);
    case MAP:
        if (!depth || (s = head(p, n, s)) == BAD) return BAD;
        for (uint64_t left = argument(p, at, POSITION(s)); left && s != BAD; left--) {
            s = text(p, n, s);
            if (s != BAD) s = item(p, n, s, depth - 1);
        }
        return s;
    case TAG: s = head(p, n, s); return s == BAD ? BAD : tagged(p, n, s, argument(p, at, POSITION(s)), depth);
    }
    /* false, true, null, float16, float32, float64 */
    int info = cbor_info(p + at);
    return (info >= CBOR_FALSE && info <= CBOR_NULL) || (info >= CBOR_FLOAT16 && info <= CBOR_FLOAT64) ? head(p, n, s) : BAD;
}

#ifdef __wasm__
extern uint8_t __heap_base;
static inline int is_above_stack(bytes p, uint32_t n) {
    uint64_t start = (uintptr_t)p, pages = __builtin_wasm_memory_size(0);
    return start >= (uintptr_t)&__heap_base && start + n <= pages << 16;
}
#else
static inline int is_above_stack(bytes p, uint32_t n) { return p || !n; }
#endif

int check_item(const uint8_t *p, uint32_t n, uint32_t max_nodes, uint32_t max_depth) {
    if (!is_above_stack(p, n)) return 0;
    state end = item(p, n, (state)max_nodes << 32, max_depth);
    return end != BAD && POSITION(end) == n;
}

uint32_t count_items(const uint8_t *p, uint32_t n, uint32_t max_depth) {
    if (!is_above_stack(p, n)) return 0;
    state end = item(p, n, (state)UINT32_MAX << 32, max_depth);
    return end != BAD && POSITION(end) == n ? UINT32_MAX - (uint32_t)(end >> 32) : 0;
}
