/* The guest's CBOR codec: docs/reference/wire.md to and from Python objects, in one pass. */
#ifndef CLOCHE_CODEC_H
#define CLOCHE_CODEC_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Adds the type Block to the module: malloc'ed memory as a writable buffer, freed when the object dies. */
int codec_init(PyObject *module);

/* encode(object) -> (tag or None, substitute): how to send a type that C does not know. A list or tuple under a tag
   becomes a CBOR array; the content of a typed array, and the last item of NDARRAY, may be any contiguous buffer.
   decode(tag, content) -> object: the reverse, for every tag that C does not know; arrays arrive as lists.
   A TypeError or ValueError of the hooks becomes the codec's own. NULL keeps the hook that is there. */
int codec_set_hooks(PyObject *encode, PyObject *decode);

/* reply_bytes bounds what one encode may send, in the message and beside it; depth bounds nested containers. */
void codec_set_limits(size_t reply_bytes, uint32_t depth);
size_t codec_reply_bytes(void);

/* One item, exactly n bytes; a new reference, or NULL with ValueError, TypeError or MemoryError.
   codec_decode is for requests: it takes every block that a BYTES_AT, TEXT_AT or BODY_AT names, also when it fails.
   codec_decode_inline is for bytes that anybody may have made: it refuses those tags. */
PyObject *codec_decode(const uint8_t *p, size_t n);
PyObject *codec_decode_inline(const uint8_t *p, size_t n);

/* Encodes o; the bytes at *p are valid until the next encode. -1 with an exception whose message begins with the
   path of the offending value: `root` and what leads on from there, as in result.filters[3].fn.
   Unless it is IN_LINE, large bodies stay where they are, kept alive until codec_release or codec_release_since.
   A REPLY is [number, value], and root is the value's name. */
enum codec_form { IN_LINE, REPLY, REQUEST };
int codec_encode(PyObject *o, enum codec_form form, const char *root, const uint8_t **p, size_t *n);

/* Drops what encodes kept alive: all of it, or what was kept since codec_kept gave that number. */
void codec_release(void);
size_t codec_kept(void);
void codec_release_since(size_t kept);

#endif
