/* A request is a CBOR array of integers and byte strings, [ask, *operands]; the answer is [true, value] or [false, errno]. */
#include "hostfs.h"
#include "cbor.h"
#include "wire/abi.h"
#include "wire/tags.h"
#include <stdlib.h>
#include <string.h>

/* ---- requests */
typedef struct {
    uint8_t *bytes;
    size_t used;
} Request;

static void head(Request *r, int major, uint64_t value) {
    if (r->bytes) r->used += cbor_put_head(r->bytes + r->used, major, value, cbor_width(value));
}
static Request begin(int ask, unsigned operands, size_t room) {
    Request r = {malloc(room + CBOR_HEAD_BYTES * (operands + 5)), 0};
    head(&r, ARRAY, operands + 1);
    head(&r, UINT, (uint64_t)ask);
    return r;
}
static void number(Request *r, uint64_t value) { head(r, UINT, value); }
static void bytes(Request *r, const void *p, size_t n) {
    head(r, BYTES, n);
    if (r->bytes) memcpy(r->bytes + r->used, p, n);
    r->used += n;
}
static void body(Request *r, const void *p, size_t n) { /* the host reads a large one from where it lies */
    if (n < OUT_OF_LINE_BYTES) return bytes(r, p, n);
    head(r, TAG, TAG_BYTES_AT);
    head(r, ARRAY, 2);
    number(r, (uintptr_t)p);
    number(r, n);
}
static void text(Request *r, const char *path) { bytes(r, path, strlen(path)); }

/* ---- answers */
typedef struct {
    Answer answer;
    size_t at;
    uint8_t *body;
} Reader;

static int next(Reader *r, uint64_t *value) { /* the head's major type, or -1 */
    const uint8_t *start = r->answer.block + r->at;
    uint32_t size = cbor_head_size(start, r->answer.length - r->at);
    if (!size) return -1;
    *value = cbor_argument(start, size);
    r->at += size;
    return cbor_major(start);
}
static int reads(Reader *r, int major, uint64_t *value) { return next(r, value) == major; }
static int reads_bytes(Reader *r, const uint8_t **p, size_t *n) {
    uint64_t length;
    if (!reads(r, BYTES, &length) || length > r->answer.length - r->at) return 0;
    *p = r->answer.block + r->at;
    *n = (size_t)length;
    r->at += *n;
    return 1;
}
static int reads_body(Reader *r, const uint8_t **p,
                      size_t *n) { /* a byte string, or the place of one in a block that `finish` frees */
    size_t start = r->at;
    uint64_t value, length;
    if (reads_bytes(r, p, n)) return 1;
    r->at = start;
    if (!reads(r, TAG, &value) || value != TAG_BYTES_AT || !reads(r, ARRAY, &value) || value != 2 || !reads(r, UINT, &value) ||
        !reads(r, UINT, &length))
        return 0;
    *p = r->body = (uint8_t *)(uintptr_t)value;
    *n = (size_t)length;
    return 1;
}
static void finish(Reader *r) {
    free(r->body);
    free(r->answer.block);
}

/* Sends and frees the request. After 0, the reader is at the value. The caller calls `finish` in every case. `unanswered` is the
   error if the host has no mounts. */
static fs_err ask(Request *request, Reader *r, fs_err unanswered) {
    *r = (Reader){0};
    if (!request->bytes) return FS_NOMEM;
    int fits = request->used <= host_request_bytes();
    if (fits) r->answer = host_ask(request->bytes, request->used);
    free(request->bytes);
    if (!fits) return FS_NAMETOOLONG; /* only names can make a request that long */
    if (!r->answer.block) {
        if (r->answer.length == ANSWER_INTERRUPTED)
            return WASI_EINTR; /* CPython then looks for signals, and tries again (PEP 475) */
        return r->answer.length ? FS_NOMEM : unanswered;
    }
    uint64_t count, ok, error;
    if (!reads(r, ARRAY, &count) || count != 2 || !reads(r, SIMPLE, &ok)) return FS_IO;
    if (ok == CBOR_TRUE) return 0;
    if (ok != CBOR_FALSE || !reads(r, UINT, &error) || !error || error > UINT16_MAX) return FS_IO;
    return error == WASI_ENOSYS ? unanswered : (fs_err)error;
}
static fs_err done(Request *request, fs_err unanswered) { /* for requests whose answer has no value */
    Reader r;
    fs_err e = ask(request, &r, unanswered);
    finish(&r);
    return e;
}

fs_err hostfs_open(const char *path, int flags, uint64_t *handle, int *kind) {
    Request request = begin(ASK_OPEN, 2, strlen(path));
    text(&request, path);
    number(&request, (uint64_t)flags);
    Reader r;
    fs_err e = ask(&request, &r, flags & FS_OPEN_CREATE ? FS_ROFS : FS_NOENT);
    uint64_t count, opened, what;
    if (!e && !(reads(&r, ARRAY, &count) && count == 2 && reads(&r, UINT, &opened) && reads(&r, UINT, &what))) e = FS_IO;
    if (!e) *handle = opened, *kind = (int)what;
    finish(&r);
    return e;
}
void hostfs_close(uint64_t handle) {
    Request request = begin(ASK_CLOSE, 1, 0);
    number(&request, handle);
    (void)done(&request, FS_BADF);
}

static fs_err read_some(uint64_t handle, uint64_t at, uint8_t *p, size_t n, size_t *got) {
    Request request = begin(ASK_READ, 3, 0);
    number(&request, handle);
    number(&request, at);
    number(&request, n);
    Reader r;
    const uint8_t *content;
    fs_err e = ask(&request, &r, FS_BADF);
    *got = 0;
    if (!e && (!reads_body(&r, &content, got) || *got > n)) e = FS_IO;
    if (!e && *got) memcpy(p, content, *got);
    finish(&r);
    return e;
}
static fs_err write_some(uint64_t handle, uint64_t at, const uint8_t *p, size_t n, size_t *put) {
    Request request = begin(ASK_WRITE, at == UINT64_MAX ? 2 : 3, n < OUT_OF_LINE_BYTES ? n : 0);
    number(&request, handle);
    body(&request, p, n);
    if (at != UINT64_MAX) number(&request, at);
    Reader r;
    uint64_t count = 0;
    fs_err e = ask(&request, &r, FS_BADF);
    if (!e && (!reads(&r, UINT, &count) || count > n)) e = FS_IO;
    *put = e ? 0 : (size_t)count;
    finish(&r);
    return e;
}
static size_t writable_chunk(size_t n) { /* how many of n bytes fit one request */
    enum { HEADS_AND_OPERANDS = 128 };
    size_t room = host_request_bytes() > HEADS_AND_OPERANDS ? host_request_bytes() - HEADS_AND_OPERANDS : 1;
    room = room < FS_CHUNK_BYTES ? room : FS_CHUNK_BYTES;
    return n < room ? n : room;
}
fs_err hostfs_read(uint64_t handle, uint64_t at, uint8_t *p, size_t n, size_t *got) {
    *got = 0;
    for (size_t some, wanted; n; p += some, at += some, n -= some) {
        wanted = n < FS_CHUNK_BYTES ? n : FS_CHUNK_BYTES;
        fs_err e = read_some(handle, at, p, wanted, &some);
        if (e) return *got ? 0 : e;
        *got += some;
        if (some < wanted) break;
    }
    return 0;
}
fs_err hostfs_write(uint64_t handle, uint64_t at, const uint8_t *p, size_t n, size_t *put) {
    int at_end = at == UINT64_MAX;
    *put = 0;
    for (size_t some, wanted; n; p += some, n -= some) {
        wanted = writable_chunk(n);
        fs_err e = write_some(handle, at_end ? at : at + *put, p, wanted, &some);
        if (e) return *put ? 0 : e;
        *put += some;
        if (some < wanted) break;
    }
    return 0;
}

static fs_err with_number(int what, uint64_t handle, uint64_t value) {
    Request request = begin(what, 2, 0);
    number(&request, handle);
    number(&request, value);
    return done(&request, FS_BADF);
}
fs_err hostfs_resize(uint64_t handle, uint64_t size) { return with_number(ASK_RESIZE, handle, size); }
fs_err hostfs_touch(uint64_t handle, uint64_t changed) { return with_number(ASK_TOUCH, handle, changed); }

static fs_err status_of(Request *request, Status *status, fs_err unanswered) {
    Reader r;
    uint64_t count, kind;
    *status = (Status){0};
    fs_err e = ask(request, &r, unanswered);
    if (!e && !(reads(&r, ARRAY, &count) && count == 3 && reads(&r, UINT, &kind) && reads(&r, UINT, &status->size) &&
                reads(&r, UINT, &status->changed)))
        e = FS_IO;
    if (!e) status->kind = (int)kind;
    finish(&r);
    return e;
}
fs_err hostfs_status(uint64_t handle, Status *status) {
    Request request = begin(ASK_STATUS, 1, 0);
    number(&request, handle);
    return status_of(&request, status, FS_BADF);
}
fs_err hostfs_find(const char *path, Status *status) {
    Request request = begin(ASK_STATUS, 1, strlen(path));
    text(&request, path);
    return status_of(&request, status, FS_NOENT);
}
fs_err hostfs_change(const char *path, uint64_t changed) {
    Request request = begin(ASK_TOUCH, 2, strlen(path));
    text(&request, path);
    number(&request, changed);
    return done(&request, FS_NOENT);
}
fs_err hostfs_path(int what, const char *path) {
    Request request = begin(what, 1, strlen(path));
    text(&request, path);
    return done(&request, what == ASK_MKDIR ? FS_ROFS : FS_NOENT);
}
fs_err hostfs_rename(const char *old, const char *new) {
    Request request = begin(ASK_RENAME, 2, strlen(old) + strlen(new));
    text(&request, old);
    text(&request, new);
    return done(&request, FS_NOENT);
}

fs_err page_get(uint64_t handle, int again, Page *page) {
    Request request = begin(ASK_LIST, 2, 0);
    number(&request, handle);
    number(&request, (uint64_t)again);
    Reader r;
    uint64_t count = 0;
    fs_err e = ask(&request, &r, FS_BADF);
    if (!e && (!reads(&r, ARRAY, &count) || count % 2 || count > r.answer.length)) e = FS_IO;
    *page = (Page){0};
    if (e) finish(&r);
    else *page = (Page){r.answer, r.at, (size_t)count / 2};
    return e;
}
int page_next(Page *page, Entry *entry) {
    Reader r = {.answer = page->answer, .at = page->at};
    const uint8_t *name;
    size_t length;
    uint64_t kind;
    if (!page->used || !reads_bytes(&r, &name, &length) || !reads(&r, UINT, &kind)) return 0;
    *entry = (Entry){.name = (const char *)name, .length = length, .kind = (int)kind};
    page->at = r.at;
    page->used--;
    return length != 0;
}
void page_free(Page *page) {
    free(page->answer.block);
    *page = (Page){0};
}
